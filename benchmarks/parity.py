"""`make bench BENCH=parity`: served by vLLM against transformers + peft, greedy, in float32.

Every held-out row of both tasks: do the texts agree, and how far apart are the log-probabilities of
the tokens that both chose?
"""

import json
import sys

import httpx
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.prepared import ROOT, gateway, prepared_home, raw_vllm
from benchmarks.report import at_least, at_most, write
from hub.names import AdapterRef
from hub.registry import Registry
from hub.store import Store

MAX_TOKENS = 60


def main() -> int:
    home = prepared_home()
    with Registry.open(home) as registry:
        base = registry.bases.get()
        versions = [registry.resolve(AdapterRef(name)) for name in ("support", "payments")]
    tokenizer = AutoTokenizer.from_pretrained(base.source)
    figures = []
    with raw_vllm() as raw, gateway(raw) as url, httpx.Client(base_url=url, timeout=120) as client:
        for version in versions:
            model = AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32)
            model = PeftModel.from_pretrained(model, Store(home).folder(version)).eval()
            path = ROOT / "examples" / version.adapter / "heldout.jsonl"
            agreed = tokens = rows = 0
            largest = 0.0
            for line in path.read_text().splitlines():
                messages = json.loads(line)["messages"][:-1]
                ours, ours_logprobs = generate(model, tokenizer, messages)
                theirs, their_logprobs = ask(client, str(version), messages)
                rows += 1
                agreed += ours == theirs
                tokens += len(their_logprobs)
                if ours == theirs:
                    pairs = zip(ours_logprobs, their_logprobs, strict=False)
                    largest = max(largest, *(abs(a - b) for a, b in pairs))
            figures.append(
                {"version": str(version), "rows": rows, "agreed": agreed, "tokens": tokens,
                 "largest_logprob_difference": largest}
            )  # fmt: skip
    rows = sum(int(f["rows"]) for f in figures)
    share = sum(int(f["agreed"]) for f in figures) / rows
    tokens = sum(int(f["tokens"]) for f in figures)
    worst = max(float(f["largest_logprob_difference"]) for f in figures)
    return write(
        "parity",
        [
            at_least(f"greedy agreement on {rows} prompts", share, "share", 0.99),
            at_least("tokens compared", tokens, "tokens", 1000),
            at_most("largest difference in log-probability", worst, "nats", 1e-3),
        ],
        figures,
    )


def generate(model: PeftModel, tokenizer: object, messages: list[dict]) -> tuple[str, list[float]]:  # type: ignore[type-arg]
    """transformers' greedy text, and the log-probability of each of its tokens."""
    inputs = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        output = model.generate(
            **inputs, max_new_tokens=MAX_TOKENS, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    new = output.sequences[0, inputs["input_ids"].shape[1] :]
    logprobs = [
        torch.log_softmax(step[0].float(), -1)[token].item()
        for step, token in zip(output.logits, new, strict=True)
    ]
    return tokenizer.decode(new, skip_special_tokens=True), logprobs  # type: ignore[attr-defined]


def ask(client: httpx.Client, model: str, messages: list[dict]) -> tuple[str, list[float]]:  # type: ignore[type-arg]
    """The same through the gateway."""
    body = {"model": model, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0,
            "logprobs": True}  # fmt: skip
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    choice = response.json()["choices"][0]
    return choice["message"]["content"], [t["logprob"] for t in choice["logprobs"]["content"]]


if __name__ == "__main__":
    sys.exit(main())
