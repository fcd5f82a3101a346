"""Bodies are changed in their bytes: what was asked for, and nothing else."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.requests.bodies import with_values

NAME = b'"support@3#9f2c"'


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"model":"a","n":1}', '{"model":NEW,"n":1}'),
        ('{ "n" : 1.10 ,\r\n "model"\t:  "a" }', '{ "n" : 1.10 ,\r\n "model"\t:  NEW }'),
        ('{"seed":123456789012345678901234567890,"model":"a"}', None),
        ('{"f":0.10000000000000000555,"e":1E+2,"model":"a"}', None),
        ('{"deep":{"model":"a"},"list":[{"model":"a"}],"model":"a"}', None),
        ('{"text":"\\"model\\":\\"a\\"","model":"a","t":"{[\\\\"}', None),
        ('{"mod\\u0065l":"a","\\u006d":1}', '{"mod\\u0065l":NEW,"\\u006d":1}'),
        ('{"model":"x","n":[1,2],"model":"a"}', '{"model":NEW,"n":[1,2],"model":NEW}'),
        ('{"model":null}', '{"model":NEW}'),
        ('{"model":{"a":[{}]},"n":1}', '{"model":NEW,"n":1}'),
        ('{"model":-1.5e3}', '{"model":NEW}'),
        ("{}", '{"model":NEW}'),
        (' { "n":1}', ' {"model":NEW, "n":1}'),
    ],
)
def test_only_the_value_changes(raw: str, expected: str | None) -> None:
    """Spacing, order, big integers, escapes, look-alikes and duplicates stay as they were."""
    if expected is None:
        head, _, tail = raw.rpartition('"model":"a"')
        expected = f'{head}"model":NEW{tail}'
    wanted = expected.encode().replace(b"NEW", NAME)
    assert with_values(raw.encode(), {"model": NAME}) == wanted


def test_an_object_is_replaced_whole_and_a_missing_key_added() -> None:
    """Several keys at once, wherever they are."""
    raw = b'{"stream_options":{"a":[1,{"b":"}"}]},"model":"a"}'
    new = {"model": NAME, "stream_options": b'{"include_usage":true}', "extra": b"1"}
    assert with_values(raw, new) == (
        b'{"extra":1,"stream_options":{"include_usage":true},"model":' + NAME + b"}"
    )


_texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["model", '"', "\\"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_texts, _values, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_parsed_it_is_the_object_with_that_value(
    body: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    """For any JSON object, in either spelling, read as Python does: with integers of any size."""
    try:
        raw = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()
        orjson.loads(raw)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return
    assert json.loads(with_values(raw, {"model": NAME})) == {**body, "model": json.loads(NAME)}
