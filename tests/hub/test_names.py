"""The grammar of names and references, from outside: text in, text out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidName, InvalidReference
from hub.names import (
    AdapterRef,
    Alias,
    AutoRef,
    BaseRef,
    CompositionRef,
    Digest,
    Number,
    engine_name,
    parse_name,
    parse_reference,
)

parts = st.from_regex(re.compile(r"[a-z0-9][a-z0-9._-]{0,20}"), fullmatch=True)
names = st.one_of(parts, st.tuples(parts, parts).map("/".join)).filter(
    lambda name: name not in ("base", "auto")
)
aliases = st.from_regex(re.compile(r"[a-z][a-z0-9_-]{0,15}"), fullmatch=True).filter(
    lambda alias: alias != "sha256"
)
selectors = st.one_of(
    st.none(),
    st.integers(1, 999_999_999).map(Number),
    aliases.map(Alias),
    st.from_regex(re.compile(r"[0-9a-f]{12,64}"), fullmatch=True).map(Digest),
)
references = st.builds(AdapterRef, names, selectors)
weights = st.decimals(-99, 99, places=3, allow_nan=False, allow_infinity=False)
compositions = st.lists(st.tuples(references, weights), min_size=1, max_size=4)


@given(references)
def test_printing_and_parsing_a_version_gives_it_back(reference: AdapterRef) -> None:
    """parse(str(x)) is x, for every version reference there can be."""
    assert parse_reference(str(reference)) == reference


@given(compositions)
def test_printing_a_composition_is_stable(terms: list[tuple[AdapterRef, object]]) -> None:
    """parse -> print -> parse is stable, and so is the second print."""
    text = "+".join(f"{adapter}*{weight:f}" for adapter, weight in terms)
    once = parse_reference(text)
    assert isinstance(once, CompositionRef)
    assert parse_reference(str(once)) == once
    assert str(parse_reference(str(once))) == str(once)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No string makes the parser fail in another way, and what it accepts it prints readably."""
    try:
        reference = parse_reference(text)
    except InvalidReference as error:
        refusal: InvalidReference | None = error
    else:
        refusal = None
        assert parse_reference(str(reference)) == reference
    if refusal is not None:
        assert refusal.hint
        assert str(refusal).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "../x", "a/../b", "/etc", "a//b", "a/b/c", "a b", "a\nb", "a\x00", "a#b", "SUPPORT", "é",
        "a@", "@3", "a@0", "a@-1", "a@1.5", "a@Production", "a@sha256:", "a@sha256:xyz",
        "a@sha256:123", "a@md5:123456789012", "a*", "a*x", "a*1e9", "a*nan", "a+", "+a", "a++b",
        "a*0.5*0.5", "base+a", "a" * 65, "",
    ],
)  # fmt: skip
def test_hostile_references_are_refused(text: str) -> None:
    """Nothing that could leave a folder, collide with another name or confuse a log is a name."""
    with pytest.raises(InvalidReference):
        parse_reference(text)


def test_the_special_words_are_not_adapters() -> None:
    """`base` and `auto` mean what they say and can't be published."""
    assert parse_reference("base") == BaseRef()
    assert parse_reference("auto") == AutoRef()
    for word in ("base", "auto"):
        with pytest.raises(InvalidName, match="reserved"):
            parse_name(word)


def test_weights_have_one_spelling() -> None:
    """0.70, .7 and 0.7 are one composition."""
    texts = {str(parse_reference(f"a@1*{weight}")) for weight in ("0.70", ".7", "0.7")}
    assert texts == {"a@1*0.7"}


def test_an_engine_name_carries_the_digest() -> None:
    """Different weights never share an engine name, whatever they are called."""
    assert engine_name("acme/support", 3, "f" * 64) == "acme/support@3#ffffffffffff"
