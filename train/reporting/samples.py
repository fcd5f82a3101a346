"""What the base and the tuned model say to rows that neither was trained on, to be read."""

from dataclasses import dataclass
from typing import Any

from train.data.rows import Row

MOST_SAMPLES = 10


@dataclass(frozen=True)
class Sample:
    """One question, the answer that the data gives, and the two models' answers."""

    row: Row
    base: str
    tuned: str

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.row.file,
            "row": self.row.number,
            "question": self.row.question,
            "data": self.row.answer,
            "base": self.base,
            "tuned": self.tuned,
        }
