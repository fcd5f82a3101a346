"""Build the starter base: a small chat model and its tokenizer, from nothing, in a minute or two.

The starter lets every command of Loom be tried on two CPU cores without a download. It answers on
a few topics, copies names and numbers that it never saw, and does not do the example tasks: the
adapters do. The same seed gives the same bytes on the same machine, however many cores it has.

Operators run on one thread each and the batch is shared among workers, so OpenMP's settings do not
matter here. They do to whoever uses torch afterwards on few cores: set `GOMP_SPINCOUNT=0` and
`OMP_WAIT_POLICY=passive` before torch is imported, or waiting threads spin.

Absent on purpose: a GPU path, checkpoints and resuming. It takes a minute; run it again.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from hub.errors import BaseError, InvalidConfig, TrainingError
from train.starter.corpus import Chat, corpus
from train.starter.files import sibling, unwritable, write
from train.starter.model import new_model, share_codes
from train.starter.tokenizer import spaced_pairs, train_tokenizer

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class StarterConfig:
    """The recipe. `workers` is part of it: another count sums in another order: other bytes."""

    vocabulary: int = 2048
    hidden: int = 192
    layers: int = 3
    heads: int = 3
    head_size: int = 64
    feed_forward: int = 512
    context: int = 1024
    documents: int = 18_000
    validation_documents: int = 200
    tokenizer_documents: int = 6_000
    batch_size: int = 16
    steps: int = 900
    warmup_steps: int = 30
    decay_from: float = 0.4  # the share of the steps after which the learning rates fall
    matrix_rate: float = 0.005  # Muon, for hidden matrices
    copy_head_rate: float = 1e-3  # AdamW, gentle on the layers that hold the copy heads
    embedding_rate: float = 3e-3  # AdamW, for embeddings and norms
    user_weight: float = 0.2  # of a user's token in the loss; an assistant's counts 1
    workers: int = 2  # threads, each with its share of every batch


@dataclass(frozen=True, slots=True)
class StarterReport:
    """What was built. `validation_loss` is nats per assistant token."""

    parameters: int
    steps: int
    seconds: float
    validation_loss: float
    tokens: int


@dataclass(frozen=True, slots=True)
class _Example:
    """A chat as token ids, with the weight of each token in the loss."""

    ids: list[int]
    weights: list[float]


def build_starter(
    out: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    config: StarterConfig | None = None,
) -> StarterReport:
    """Build the base and write it to `out`, which must not exist or be empty.

    `progress(step, total, loss)` is called after every tenth step and after the last. Nothing is
    written before the end, and then in one rename. Torch's global state is put back as it was.
    Raises InvalidConfig for a seed that is no seed and BaseError if `out` cannot be written, both
    at once; TrainingError if the loss is no longer a number.
    """
    config = config or StarterConfig()
    if not 0 <= seed < 2**32:
        raise InvalidConfig([f"seed: {seed} is not between 0 and {2**32 - 1}"])
    _refuse_unwritable(out)
    started = time.monotonic()
    with _reproducible(seed):
        chats = corpus(config.documents, seed)
        tokenizer = train_tokenizer(chats[: config.tokenizer_documents], config.vocabulary)
        model = _new_model(tokenizer, config)
        examples = [_encode(tokenizer, chat, config.user_weight) for chat in chats]
        tokens = _train(model, examples, config, seed, progress or _silent)
        held_out = corpus(config.validation_documents, seed + 1_000_000)
        loss = _validation_loss(
            model, [_encode(tokenizer, chat, 0.0) for chat in held_out], config.batch_size
        )
    write(out, model, tokenizer)
    return StarterReport(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        steps=config.steps,
        seconds=time.monotonic() - started,
        validation_loss=loss,
        tokens=tokens,
    )


def _silent(step: int, total: int, loss: float) -> None:
    """Report nothing."""


def _refuse_unwritable(out: Path) -> None:
    try:
        occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise unwritable(out, error) from error
    if occupied:
        raise BaseError(
            "the folder for the starter base is not empty",
            where=str(out),
            hint="choose another folder, or delete this one",
        )
    sibling(out).rmdir()


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seeded, deterministic, operators on one thread each; torch is as it was before, after."""
    threads_before = torch.get_num_threads()
    strict_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(strict_before, warn_only=warn_before)


def _new_model(tokenizer: PreTrainedTokenizerFast, config: StarterConfig) -> LlamaForCausalLM:
    model = new_model(
        vocabulary=len(tokenizer),
        end_token=tokenizer.eos_token_id,
        pad_token=tokenizer.pad_token_id,
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        head_size=config.head_size,
        feed_forward=config.feed_forward,
        context=config.context,
    )
    share_codes(model, spaced_pairs(tokenizer))
    return model


# Data


def _encode(tokenizer: PreTrainedTokenizerFast, chat: Chat, user_weight: float) -> _Example:
    """The ids that the chat template gives, piece by piece, so that each knows its weight.

    The frame around each message (role, line break) never varies and counts nothing.
    """
    encode = tokenizer.backend_tokenizer.encode
    ids: list[int] = []
    weights: list[float] = []
    for role, content in chat:
        head = encode(f"<|im_start|>{role}\n").ids
        body = encode(f"{content}<|im_end|>").ids
        tail = encode("\n").ids
        ids += [*head, *body, *tail]
        weights += [0.0] * len(head)
        weights += [1.0 if role == "assistant" else user_weight] * len(body)
        weights += [0.0] * len(tail)
    return _Example(ids, weights)


def _batches(examples: list[_Example], size: int, random: Random) -> list[list[_Example]]:
    """Shuffled batches of chats of like length, so that little is padding."""
    order = list(examples)
    random.shuffle(order)
    batches: list[list[_Example]] = []
    for start in range(0, len(order), size * 32):
        pool = sorted(order[start : start + size * 32], key=lambda example: len(example.ids))
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    random.shuffle(batches)
    return batches


def _tensors(batch: list[_Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and weights, each (batch, longest); the length is a multiple of 16 for faster kernels."""
    longest = -(-max(len(example.ids) for example in batch) // 16) * 16
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    weights = torch.zeros(len(batch), longest)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        weights[row, : len(example.weights)] = torch.tensor(example.weights)
    return ids, weights


# Training


def _loss(model: LlamaForCausalLM, batch: list[_Example], total_weight: float) -> torch.Tensor:
    """Weighted cross entropy of each token given those before it, in nats, over `total_weight`.

    Logits are computed only where the weight is not zero: two thirds of the positions.
    """
    ids, weights = _tensors(batch)
    weights, targets = weights[:, 1:], ids[:, 1:]
    counted = weights > 0
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][counted]
    logits = (states @ model.lm_head.weight.T).float()
    losses = functional.cross_entropy(logits, targets[counted], reduction="none")
    return (losses * weights[counted]).sum() / total_weight


def _total_weight(batch: list[_Example]) -> float:
    return sum(sum(example.weights) for example in batch)


@torch.no_grad()
def _validation_loss(model: LlamaForCausalLM, examples: list[_Example], size: int) -> float:
    total = _total_weight(examples)
    batches = (examples[at : at + size] for at in range(0, len(examples), size))
    return sum(_loss(model, batch, total).item() for batch in batches)


def _optimizers(model: LlamaForCausalLM, config: StarterConfig) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices; AdamW for the attention of the copy heads' layers and the rest."""
    copying, matrices, others = [], [], []
    for name, parameter in model.named_parameters():
        if "layers.0.self_attn" in name or "layers.1.self_attn" in name:
            copying.append(parameter)
        elif parameter.ndim == 2 and "embed" not in name:
            matrices.append(parameter)
        else:
            others.append(parameter)
    # Muon's work is halved evenly, large and small matrices alike, so that two threads share it.
    return [
        torch.optim.AdamW(others, lr=config.embedding_rate, betas=(0.9, 0.95), weight_decay=0),
        torch.optim.AdamW(copying, lr=config.copy_head_rate, betas=(0.9, 0.95), weight_decay=0),
        *(
            torch.optim.Muon(
                half, lr=config.matrix_rate, weight_decay=0.01, adjust_lr_fn="original"
            )
            for half in (matrices[::2], matrices[1::2])
        ),
    ]


def _rate_factor(step: int, config: StarterConfig) -> float:
    """Linear warm-up, a plateau, and a linear fall to a fiftieth."""
    warm = min(1.0, step / config.warmup_steps)
    done = step / config.steps
    if done < config.decay_from:
        return warm
    return warm * max(0.02, (1 - done) / (1 - config.decay_from))


def _train(
    model: LlamaForCausalLM,
    examples: list[_Example],
    config: StarterConfig,
    seed: int,
    progress: Progress,
) -> int:
    """Train `model` in place; the number of tokens seen.

    Forward and backward run on bfloat16 copies, whose gradients update the float32 weights: faster
    on a CPU with bfloat16 instructions, and no worse here. Each worker thread has a copy and its
    share of the batch. Threads that meet twice a step lose far less than OpenMP's, which meet
    several hundred times, as soon as anything else runs on the machine.
    """
    copies = [deepcopy(model).bfloat16() for _ in range(config.workers)]
    optimizers = _optimizers(model, config)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    random = Random(seed)
    queue: list[list[_Example]] = []
    tokens = 0
    with ThreadPoolExecutor(config.workers) as pool:
        for step in range(config.steps):
            queue = queue or _batches(examples, config.batch_size, random)
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * _rate_factor(step, config)
            batch = queue.pop()
            loss = _gradients(pool, copies, batch)
            _update(pool, model, copies, optimizers)
            tokens += sum(len(example.ids) for example in batch)
            if (step + 1) % 10 == 0 or step + 1 == config.steps:
                _report(step + 1, config.steps, loss, progress)
    return tokens


def _gradients(
    pool: ThreadPoolExecutor, copies: list[LlamaForCausalLM], batch: list[_Example]
) -> float:
    """Leave each copy with the gradients of its share of the batch; the loss of the whole."""
    total = _total_weight(batch)

    def share(worker: int) -> float:
        loss = _loss(copies[worker], batch[worker :: len(copies)], total)
        torch.autograd.backward(loss)
        return loss.item()

    return sum(pool.map(share, range(len(copies))))


def _update(
    pool: ThreadPoolExecutor,
    model: LlamaForCausalLM,
    copies: list[LlamaForCausalLM],
    optimizers: list[torch.optim.Optimizer],
) -> None:
    """Add up the copies' gradients, always in one order, step, and refresh the copies."""
    together = list(zip(model.parameters(), *(copy.parameters() for copy in copies), strict=True))
    for weight, *copied in together:
        weight.grad = copied[0].grad.float()
        for other in copied[1:]:
            weight.grad += other.grad
        for each in copied:
            each.grad = None
    torch.nn.utils.clip_grad_norm_(optimizers[0].param_groups[0]["params"], 1.0)
    list(pool.map(lambda optimizer: optimizer.step(), optimizers))
    with torch.no_grad():
        for weight, *copied in together:
            for each in copied:
                each.copy_(weight)


def _report(step: int, total: int, loss: float, progress: Progress) -> None:
    if loss != loss:
        raise TrainingError(
            f"the starter's loss is not a number any more at step {step}",
            hint="build it again with another seed",
        )
    progress(step, total, loss)
