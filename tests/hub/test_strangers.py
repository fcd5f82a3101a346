"""Text and numbers from strangers: reasons, addresses, and the JSON that comes with an adapter."""

import pytest

from hub.address import Address
from hub.errors import UsageError
from hub.strictjson import read_json
from hub.who import parse_reason


@pytest.mark.parametrize("why", ["\udcff", "a\nb", "\x1b[2J", "\u2028", "x" * 1001])
def test_a_reason_is_one_line_of_text(why: str) -> None:
    """It is shown in terminals for ever: no control characters, no broken text, no novels."""
    with pytest.raises(UsageError, match="reason"):
        parse_reason(why)
    assert parse_reason("für 3 % weniger Fehler 👩‍💻") == "für 3 % weniger Fehler 👩‍💻"


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://x\x01y", "http://a..b", f"http://{'a' * 300}", "http://x:99999", "x"],
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    """Before anything is asked, and in words that a terminal can show."""
    with pytest.raises(UsageError, match="is no hub's address") as refused:
        Address(url, who="ann")
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "text",
    ["1e999", "[NaN]", '{"a": "\\ud800"}', '{"\\udfff": 1}', "9" * 30, "[" * 99 + "]" * 99],
)
def test_json_that_could_not_be_written_again_is_not_read(text: str) -> None:
    """Infinities, NaN, half characters, endless integers and depth."""
    with pytest.raises(ValueError, match=r"finite|Unicode|64 bits|deep"):
        read_json(text)
    assert read_json('{"a": [1, 0.5, "\\ud83d\\ude00", null, true]}')["a"][2] == "😀"
