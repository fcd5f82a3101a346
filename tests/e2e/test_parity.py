"""Served, an adapter says what it says with transformers and peft: only the name is changed."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Demo

PROMPTS = 10


@pytest.mark.parametrize("version", ["support@1", "payments@1"])
def test_served_answers_are_those_of_transformers_and_peft(demo: Demo, version: str) -> None:
    """Greedy, float32: the same text for every prompt (the full figures are in BENCH=parity)."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (base,) = demo.hub.ok("base", "ls", "--json").json()
    folder = demo.hub.ok("show", version, "--json").json()["folder"]
    tokenizer = AutoTokenizer.from_pretrained(base["source"])
    model = AutoModelForCausalLM.from_pretrained(base["source"], dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder).eval()
    rows = (_examples() / version.partition("@")[0] / "heldout.jsonl").read_text().splitlines()
    for row in rows[:PROMPTS]:
        messages = json.loads(row)["messages"][:-1]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            output = model.generate(**inputs, max_new_tokens=60, do_sample=False)
        expected = tokenizer.decode(
            output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        served = demo.openai().chat.completions.create(
            model=version, messages=messages, max_tokens=60, temperature=0
        )
        assert served.choices[0].message.content == expected


def _examples() -> Path:
    return Path(__file__).parents[2] / "examples"
