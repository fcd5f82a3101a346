"""The starter's network: a small Llama whose first two layers know how to copy from the start.

Copying a name that was never seen needs two attention heads that work together, a previous-token
head and an induction head (Olsson et al. 2022, arXiv 2209.11895). Training finds them only after
far more steps than a minute allows, so `set_copy_heads` writes them into the random weights, and
training goes on from there.
"""

from collections.abc import Iterable

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

# The residual stream is read as three slots of one head's size: two halves of the token's own
# embedding, and a place where layer 0 writes half of the previous token's embedding.
_SLOT = 64
_ROPE_THETA = 10_000.0
_CONSTANT = 0.15  # the value of dimension 0 in every embedding: what position alone is read from
_PREVIOUS_GAIN = 1.17  # makes the previous-token head's attention about 0.9 on its target
_PREVIOUS_WRITE = 0.025
_MATCH_GAIN = 3.2  # makes an induction head prefer the one match to a hundred near misses
_COPY_WRITE = 0.08


def new_model(
    *,
    vocabulary: int,
    end_token: int,
    pad_token: int,
    hidden: int,
    layers: int,
    heads: int,
    head_size: int,
    feed_forward: int,
    context: int,
) -> LlamaForCausalLM:
    """A float32 model, random but for its copy heads; it draws from torch's global generator."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_size,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=end_token,
        pad_token_id=pad_token,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
    )
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    set_copy_heads(model)
    return model


@torch.no_grad()
def set_copy_heads(model: LlamaForCausalLM) -> None:
    """Write one previous-token head (layer 0) and two induction heads (layer 1) into `model`.

    Together they do: "where did the token that I am at occur before, and what came after it?"

    1. Every embedding gets the same value in dimension 0, and nothing in the third slot.
    2. Layer 0, head 0 attends to the token before: its queries and keys read only the constant, so
       that only RoPE's rotation tells positions apart, and the key is turned by one position. It
       copies the second half of that token's embedding into the third slot.
    3. Layer 1, heads 0 and 1 compare the current token's code (second slot) with every position's
       previous token (third slot), 32 dimensions each, in RoPE's slow frequencies, which
       hardly turn within a chat. What they find they copy to the residual stream, head 0 the first
       slot and head 1 the second: with tied embeddings that is a vote for the token found.

    All other writes to the residual stream start at zero, so that nothing disturbs the heads.
    Needs a hidden size of three slots, a head size of one slot and at least two layers.
    """
    model.model.embed_tokens.weight[:, 0] = _CONSTANT
    model.model.embed_tokens.weight[:, 2 * _SLOT :] = 0
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.zero_()
        layer.self_attn.o_proj.weight.zero_()
    _set_previous_token_head(model.model.layers[0].self_attn)
    for head in (0, 1):
        _set_induction_head(model.model.layers[1].self_attn, head)


@torch.no_grad()
def share_codes(model: LlamaForCausalLM, pairs: Iterable[tuple[int, int]]) -> None:
    """Give both tokens of each pair one code (second slot), so that induction heads match either.

    ` G` and `G` continue alike; a name told in a sentence is found again when JSON begins it.
    """
    codes = model.model.embed_tokens.weight[:, _SLOT : 2 * _SLOT]
    for first, second in pairs:
        codes[second] = codes[first]


def _set_previous_token_head(attention: LlamaAttention) -> None:
    half = _SLOT // 2
    frequencies = _ROPE_THETA ** (-torch.arange(0, _SLOT, 2).float() / _SLOT)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[:_SLOT] = 0
    # The ten fastest frequencies: enough for a sharp peak, and slower ones would only blur it.
    for index in range(10):
        turn = frequencies[index]
        attention.q_proj.weight[index, 0] = _PREVIOUS_GAIN
        attention.k_proj.weight[index, 0] = _PREVIOUS_GAIN * torch.cos(turn)
        attention.k_proj.weight[index + half, 0] = _PREVIOUS_GAIN * torch.sin(turn)
    for index in range(_SLOT):
        attention.v_proj.weight[index, _SLOT + index] = 1.0
        attention.o_proj.weight[2 * _SLOT + index, index] = _PREVIOUS_WRITE


def _set_induction_head(attention: LlamaAttention, head: int) -> None:
    start = head * _SLOT
    half, quarter = _SLOT // 2, _SLOT // 4
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[start : start + _SLOT] = 0
    slow = [*range(quarter, half), *range(half + quarter, _SLOT)]
    for index, row in enumerate(slow):
        code = _SLOT + half * head + index
        attention.q_proj.weight[start + row, code] = _MATCH_GAIN
        attention.k_proj.weight[start + row, code + _SLOT] = _MATCH_GAIN
    # Dimension 0 holds the constant, which says nothing about the token.
    for index in range(1 if head == 0 else 0, _SLOT):
        attention.v_proj.weight[start + index, _SLOT * head + index] = 1.0
        attention.o_proj.weight[_SLOT * head + index, start + index] = _COPY_WRITE
