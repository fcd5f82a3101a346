"""The console's files keep what its strict CSP and its untrusted answers ask of them.

`tests/e2e` drives the same page in Chromium. Here, without browser or engine, is what a browser
would only show as a page that half works.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import serve

CONSOLE = Path(serve.__file__).parent / "console"
FILES = sorted(path for path in CONSOLE.iterdir() if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name, never fetched


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def page() -> str:
    return text_of(CONSOLE / "index.html")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_another_server(path: Path) -> None:
    """The console works with no network but the gateway."""
    text = text_of(path).replace(SVG_NAMESPACE, "")
    assert not re.search(r"(?:https?:|wss?:|[\"'(]//)", text)
    assert "@import" not in text


def test_page_has_no_inline_script_or_style() -> None:
    """`default-src 'self'` would drop each of these silently."""
    html = page()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL)
    assert scripts
    assert all("src=" in attributes and not body.strip() for attributes, body in scripts)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_put_text_in_as_text(path: Path) -> None:
    """Answers, names and errors are untrusted: nothing parses HTML or evaluates a string."""
    banned = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
        r"|setHTML|\beval\(|new Function|setAttribute\(\"style\"|cssText"
    )
    assert not re.search(banned, text_of(path))


def test_every_file_is_reached_and_every_reference_exists() -> None:
    """What the page and its modules load is there, and no file lies unused."""
    loaded = {"index.html", *re.findall(r"/console/([\w.-]+)\"", page())}
    for path in SCRIPTS:
        loaded |= set(re.findall(r"from \"\./([\w.-]+)\"", text_of(path)))
    assert loaded == {path.name for path in FILES}


def test_ids_that_scripts_ask_for_are_in_the_page() -> None:
    """A renamed id would fail only in the browser, and only when its turn comes."""
    ids = re.findall(r"\sid=\"([\w-]+)\"", page())
    assert len(ids) == len(set(ids))
    scripts = "".join(text_of(path) for path in SCRIPTS)
    asked = set(re.findall(r"byId\(\"([\w-]+)\"\)", scripts))
    assert asked <= set(ids)


def test_icons_are_in_the_sprite() -> None:
    """Both the page's own icons and those that scripts make."""
    drawn = set(re.findall(r"<symbol id=\"i-(\w+)\"", page()))
    used = set(re.findall(r"href=\"#i-(\w+)\"", page()))
    for path in SCRIPTS:
        used |= set(re.findall(r"\bicon\(\"(\w+)\"\)", text_of(path)))
    assert used == drawn
    ElementTree.parse(CONSOLE / "icon.svg")
