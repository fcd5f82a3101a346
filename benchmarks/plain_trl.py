"""What `hub train` is measured beside: a script as TRL's documentation has it, and no more.

`python -m benchmarks.plain_trl SETTINGS.json`, whose settings are those that `hub train
--print-config` prints, with files of rows to train and to validate on, the base's folder and where
the adapter goes; it goes on from checkpoints that are there. Where TRL's defaults suit a GPU
(bfloat16, gradient checkpointing, rows cut at 1,024 tokens), it is told what `hub train` does on a
CPU, so that both compute the same. It says what it did as JSON on the last line of stdout.

Absent on purpose: everything that is no training (lint, checks of the result, report, registry).
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset  # type: ignore[import-untyped]
from peft import LoraConfig
from transformers import EarlyStoppingCallback, set_seed
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]


def main() -> int:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    started = time.monotonic()
    files = {"train": settings["train"], "validation": settings["validation"]}
    rows = load_dataset("json", data_files=files)
    set_seed(settings["seed"])  # before peft draws the adapter's A matrices
    trainer = SFTTrainer(
        model=settings["base"],
        args=_arguments(settings),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        peft_config=LoraConfig(
            r=settings["rank"],
            lora_alpha=settings["alpha"],
            lora_dropout=settings["dropout"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[EarlyStoppingCallback(settings["early_stopping_patience"])],
    )
    left = any(Path(settings["out"], "checkpoints").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=left)
    trainer.save_model(settings["out"])
    spent = {"seconds": time.monotonic() - started, "steps": trainer.state.global_step}
    print(json.dumps({**spent, "validation_loss": trainer.state.best_metric}))
    return 0


def _arguments(settings: dict[str, Any]) -> SFTConfig:
    return SFTConfig(
        output_dir=f"{settings['out']}/checkpoints",
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["gradient_accumulation"],
        learning_rate=settings["learning_rate"],
        warmup_steps=settings["warmup_ratio"],
        lr_scheduler_type="cosine",
        assistant_only_loss=True,
        max_length=None,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        seed=settings["seed"],
        data_seed=settings["seed"],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
    )


if __name__ == "__main__":
    sys.exit(main())
