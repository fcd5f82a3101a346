"""Which tokens of a row are trained on, for people to look at.

The tokens and their marks are `ChatTokenizer.encode`'s, which is what `train.trainers.sft` makes
its labels of; nothing is worked out a second time here. Absent on purpose: preferences and labelled
rows, whose trainers cut a row into prompt and answer in their own way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hub.errors import InvalidData
from train.data.rows import Row
from train.templates.tokens import ChatTokenizer, Encoded


@dataclass(frozen=True)
class Mask:
    """A row's tokens, and for each whether the loss is taken on it."""

    row: Row
    encoded: Encoded
    tokenizer: Any

    @property
    def trained(self) -> int:
        return sum(self.encoded.trained)

    def stretches(self) -> Iterator[tuple[str, bool]]:
        """(text, trained) of each stretch of tokens with the same mark, special tokens and all."""
        pairs = zip(self.encoded.ids, self.encoded.trained, strict=True)
        for trained, tokens in groupby(pairs, key=lambda pair: pair[1]):
            yield self._text([token for token, _ in tokens]), trained

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.row.file,
            "row": self.row.number,
            "tokens": len(self.encoded.ids),
            "trained": self.trained,
            "read_only_answers": self.encoded.unserved,
            "mask": [
                {"id": token, "text": self._text([token]), "trained": trained}
                for token, trained in zip(self.encoded.ids, self.encoded.trained, strict=True)
            ],
        }

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def mask_of(chat: ChatTokenizer, row: Row) -> Mask:
    """The row as it is trained on.

    Raises:
        InvalidData: when the row is no chat, or the base's chat template refuses it.
    """
    from jinja2 import TemplateError

    where = f"{row.file}, row {row.number}"
    if row.kind != "chat":
        raise InvalidData(f"the row is a {row.kind} row; masks are shown of chats", where=where)
    try:
        encoded = chat.encode(row)
    except (TemplateError, ValueError, TypeError) as error:
        raise InvalidData(f"the base's chat template refuses it: {error}", where=where) from error
    return Mask(row, encoded, chat.tokenizer)
