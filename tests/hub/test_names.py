"""The grammar of names and references, from outside: text in, text out."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import HubError, InvalidName, InvalidReference
from hub.names import (
    MAX_REFERENCE_LENGTH,
    AdapterRef,
    Alias,
    AutoRef,
    BaseRef,
    CompositionRef,
    Digest,
    Number,
    OfJob,
    engine_name,
    parse_adapter_reference,
    parse_alias,
    parse_base_name,
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
jobs = st.from_regex(re.compile(r"[a-z0-9]{8}"), fullmatch=True)
bases = st.from_regex(
    re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,9}/)?[A-Z][\w.-]{0,9}", re.A), fullmatch=True
)
selectors = st.one_of(
    st.none(),
    st.builds(OfJob, jobs),
    st.builds(OfJob, jobs, bases, st.none() | st.integers(1, 999_999_999)),
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


# What references are made of, and what is near it: most texts of these are almost references.
GRAMMAR = "ab09@*+:./-_" + "AZ \n\t\0#%\\~" + "é٣²ａ\u202e\u200b\ud800"
pieces = st.one_of(
    st.text(GRAMMAR, max_size=12),
    st.sampled_from([
        "support", "acme/support", "base", "auto", "@3", "@production", "@sha256:0123456789ab",
        "*0.5", "*.5", "*-0", "*1e5", "*nan", "*inf", "*0x1", "*1_000", "*٣", "+", "..", "/", "@0",
        "@00", "@999999999", "@1000000000", "@sha256", "\n", "a" * 64, "a" * 65,
    ]),
)  # fmt: skip
near_references = st.lists(pieces, max_size=6).map("".join)


def read_or_refused(parse: Callable[[str], Any], text: str, refusal: type[HubError]) -> Any:
    """What a parser makes of a text; None where it refuses, which a terminal can show."""
    try:
        return parse(text)
    except refusal as error:
        words = f"{error} {error.hint}"
    assert words.isprintable()
    return None


@given(near_references)
@settings(max_examples=200)
def test_parse_print_parse_is_stable(text: str) -> None:
    """What is accepted prints as something that means the same, and prints the same again; what is
    not is refused in words that a terminal can show."""
    reference = read_or_refused(parse_reference, text, InvalidReference)
    if reference is None:
        return
    printed = str(reference)
    assert parse_reference(printed) == reference
    assert str(parse_reference(printed)) == printed
    assert printed.isascii()
    assert printed.isprintable()


@given(near_references)
@pytest.mark.parametrize("parse", [parse_name, parse_alias, parse_base_name])
def test_a_name_is_itself_or_refused(parse: Callable[[str], str], text: str) -> None:
    """No text is changed, and none fails in another way."""
    name = read_or_refused(parse, text, InvalidName)
    if name is not None:
        assert name == text
        assert text.isascii()
        assert text.isprintable()
        assert ".." not in text.split("/")


@given(near_references)
def test_where_one_version_is_wanted_nothing_else_is_read(text: str) -> None:
    """`base`, `auto` and compositions are refused there, and all that is no reference."""
    reference = read_or_refused(parse_adapter_reference, text, InvalidReference)
    if reference is not None:
        assert isinstance(reference, AdapterRef)
        assert parse_name(reference.name) == reference.name


@given(names, st.integers(1, 999_999_999))
def test_a_version_is_a_folder_below_the_one_of_all_adapters(name: str, number: int) -> None:
    """The folder that a version is kept in never leaves the place that it is made in."""
    folder = Path("/hub/adapters") / f"{name}@{number}"
    assert Path(os.path.normpath(folder)) == folder
    assert folder.is_relative_to("/hub/adapters")


def test_a_composition_that_grows_by_printing_is_refused_as_too_long() -> None:
    """A reference of 512 characters may print longer (.5 is 0.5); then it is none."""
    terms = "+".join(["a*.5"] * 102)
    assert len(terms) < MAX_REFERENCE_LENGTH
    with pytest.raises(InvalidReference, match="characters"):
        parse_reference(terms)
    exact = "+".join(["a*0.5"] * 85)
    assert str(parse_reference(exact)) == exact


@pytest.mark.parametrize(
    "text",
    [
        "../x", "a/../b", "/etc", "a//b", "a/b/c", "a b", "a\nb", "a\x00", "a#b", "SUPPORT", "é",
        "a@", "@3", "a@0", "a@-1", "a@1.5", "a@Production", "a@sha256:", "a@sha256:xyz",
        "a@sha256:123", "a@md5:123456789012", "a*", "a*x", "a*1e9", "a*nan", "a+", "+a", "a++b",
        "a*0.5*0.5", "base+a", "a" * 65, "", "support\n", "support@3\n", "a@٣", "a*٣", "ａ",
        "a\u202e", "a\ud800", "a*inf", "a*1_000", "a*0x1", "a*+1", "a*--1", "a@1e5", "a@03",
        "a@1000000000", "a@sha256", "a@sha256:" + "0" * 65, "a@sha256:" + "A" * 12, "a/.", "a/..",
        ".a", "a@" + "b" * 33, "a+" * 300, "a" * 100_000, "a*1234567", "a*0.1234567",
    ],
    ids=lambda text: ascii(text)[1:30],
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
