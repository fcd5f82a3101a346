"""`/v1/files` as the unmodified `openai` client uses it: nothing is trained here."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError

from hub.clock import stamp
from hub.home import Home
from hub.local import LocalHub
from hub.registry import Registry
from serve.run import make_engines
from serve.settings import Settings
from tests.conftest import acts
from tests.serve.conftest import Gateway, running
from tests.serve.keyed import Keys, keys

__all__ = ["keys"]

ROWS = b'{"messages": [{"role": "user", "content": "Hi"}]}\n' * 3


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with openai(gateway) as client:
        yield client


def openai(gateway: Gateway, key: str = "none") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def sent(name: str = "train.jsonl", content: bytes = ROWS) -> Any:
    return {"file": (name, content), "purpose": "fine-tune"}


async def test_a_file_is_uploaded_listed_read_and_deleted(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    """The bytes come back as they were; a deleted file is nowhere, on the disk neither."""
    made = await client.files.create(
        **sent(), expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (made.object, made.filename, made.purpose) == ("file", "train.jsonl", "fine-tune")
    assert (made.bytes, made.status) == (len(ROWS), "processed")
    assert made.expires_at == pytest.approx(made.created_at + 3600, abs=2)
    assert await client.files.retrieve(made.id) == made
    assert await client.files.wait_for_processing(made.id) == made
    assert (await client.files.content(made.id)).content == ROWS
    gone = await client.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    assert [file async for file in client.files.list()] == []
    assert list(gateway.home.files.iterdir()) == []
    for asked in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(NotFoundError) as refused:
            await asked(made.id)
        assert refused.value.code == "file_not_found"


async def test_lists_come_in_pages(client: AsyncOpenAI) -> None:
    """Newest first, or as asked; the client walks all pages by itself."""
    made = [(await client.files.create(**sent(f"{n}.jsonl"))).id for n in range(5)]
    assert [file.id async for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id async for file in client.files.list(limit=2, order="asc")] == made
    first = await client.files.list(limit=2, order="asc")
    assert (first.has_more, [file.id for file in first.data]) == (True, made[:2])
    last = await client.files.list(limit=2, order="asc", after=made[3])
    assert (last.has_more, [file.id for file in last.data]) == (False, made[4:])
    assert (await client.files.list(purpose="fine-tune-results")).data == []
    with pytest.raises(NotFoundError):
        await client.files.list(after="file-none")
    with pytest.raises(BadRequestError) as refused:
        await client.files.list(limit=0)
    assert refused.value.param == "limit"


REFUSED: list[tuple[Any, str, str]] = [
    (sent(content=b""), "file", "empty"),
    (sent(content=b"\n \n"), "file", "empty"),
    (sent(content=b'[{"messages": []}]'), "file", "JSON object"),
    (sent(content=b"prompt,completion\na,b\n"), "file", "JSON object"),
    (sent(content=b"\x1f\x8b\x08rest"), "file", "JSON object"),
    (sent(content=b'{"messages": [}\n'), "file", "JSON object"),
    (sent("n" * 300 + ".jsonl"), "file", "name"),
    ({**sent(), "purpose": "assistants"}, "purpose", "fine-tune"),
    ({**sent(), "extra_body": {"colour": "red"}}, "colour", "no part"),
    (
        {**sent(), "expires_after": {"anchor": "created_at", "seconds": 5}},
        "expires_after[seconds]",
        "3600",
    ),
]


async def test_what_can_not_be_trained_on_is_refused_by_its_field(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    """In OpenAI's error shape, and nothing is kept."""
    for asked, param, words in REFUSED:
        with pytest.raises(BadRequestError, match=words) as refused:
            await client.files.create(**asked)
        assert refused.value.param == param
        assert refused.value.type == "invalid_request_error"
    assert (await client.files.list()).data == []
    assert not gateway.home.files.exists() or list(gateway.home.files.iterdir()) == []


async def test_a_file_over_the_limit_is_413_announced_or_not(
    home: Home, settings: Settings
) -> None:
    """One in chunks, of unknown length, is stopped on the way."""
    small = replace(settings, max_file_bytes=4096)
    async with running(home, small, make_engines(home, small)) as gateway:
        async with openai(gateway) as client:
            with pytest.raises(APIStatusError) as refused:
                await client.files.create(**sent(content=ROWS * 100))
            assert (refused.value.status_code, refused.value.code) == (413, "body_too_large")
            await client.files.create(**sent())
        head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'

        async def chunks() -> AsyncIterator[bytes]:
            yield head
            for _ in range(100):
                yield ROWS

        form = {"content-type": "multipart/form-data; boundary=x"}
        answer = await gateway.http.post("/v1/files", content=chunks(), headers=form)
        assert answer.status_code == 413
        with Registry.open(home) as registry:
            assert len(registry.files.all()) == 1


async def test_as_many_files_as_may_be(
    client: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    """One more is refused, and says what to do."""
    with Registry.open(gateway.home) as registry:
        few = type(registry.files)
    monkeypatch.setattr(few.__init__, "__kwdefaults__", {"most": 2})
    for _ in range(2):
        await client.files.create(**sent())
    with pytest.raises(BadRequestError, match=r"2 files.*DELETE"):
        await client.files.create(**sent())
    assert len(list(gateway.home.files.iterdir())) == 2


async def test_a_form_from_a_page_of_another_site_is_refused(gateway: Gateway) -> None:
    """A form is what browsers send across sites unasked; old ones say only where it comes from."""
    parts = {"files": {"file": ("a.jsonl", ROWS)}, "data": {"purpose": "fine-tune"}}
    for headers, status in (
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": gateway.url}, 200),
    ):
        answer = await gateway.http.post("/v1/files", headers=headers, **parts)  # type: ignore[arg-type]
        assert answer.status_code == status, headers
    # Nowhere else is a form taken.
    other = await gateway.http.post("/v1/chat/completions", **parts)  # type: ignore[arg-type]
    assert other.status_code == 415


async def test_no_room_on_the_disk_is_said_and_leaves_nothing(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    """The place of the files is none that could be written."""
    gateway.home.files.parent.mkdir(parents=True, exist_ok=True)
    gateway.home.files.write_text("in the way")
    with pytest.raises(APIStatusError, match="disk") as refused:
        await client.files.create(**sent())
    assert refused.value.status_code == 503
    assert (await client.files.list()).data == []


async def test_names_of_files_lead_nowhere(client: AsyncOpenAI, gateway: Gateway) -> None:
    """Whatever a file is called, it lies in its own folder; it is told as it was sent."""
    for name in ("../../registry.db", "a/b.jsonl", "..", "Größe 1.jsonl", ".hidden", "a\\b.jsonl"):
        try:
            made = await client.files.create(**sent(name))
        except BadRequestError:
            continue
        (lies,) = (gateway.home.files / made.id).iterdir()
        assert lies.suffix == ".jsonl"
        assert lies.name.isascii()
        assert (await client.files.content(made.id)).content == ROWS
    inside = [path for path in gateway.home.files.rglob("*") if path.is_file()]
    outside = [path for path in gateway.home.root.rglob("*.jsonl") if path not in inside]
    assert outside == []


async def test_what_is_expired_is_gone_and_gc_takes_what_a_crash_left(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    """An expired file is not there, and its bytes go with the next upload; bytes that no row names
    go with `hub gc`, but not those of a file that is just being written."""
    old = await client.files.create(**sent("old.jsonl"))
    with Registry.open(gateway.home) as registry:
        past = stamp(datetime.now(UTC) - timedelta(hours=1))
        registry._db.execute("UPDATE files SET expires_at = ?", [past])
    with pytest.raises(NotFoundError):
        await client.files.retrieve(old.id)
    kept = await client.files.create(**sent("new.jsonl"))
    assert [path.name for path in gateway.home.files.iterdir()] == [kept.id]
    for name, age_s in (("file-crashed", 7200), ("file-begun", 0)):
        _left(gateway.home.files / name, age_s)
    with LocalHub.open(gateway.home, acts) as hub:
        hub.gc(keep_days=30, dry_run=False)
    assert {path.name for path in gateway.home.files.iterdir()} == {kept.id, "file-begun"}


def _left(folder: Path, age_s: float) -> None:
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(ROWS)
    at = datetime.now(UTC).timestamp() - age_s
    os.utime(folder, (at, at))


async def test_a_key_of_a_namespace_has_files_of_its_own(gateway: Gateway, keys: Keys) -> None:
    """What others sent is not there for it, in the very words for what never was; whoever may only
    ask models is refused before anything is looked up."""
    keys("whole", "admin"), keys("acme", "admin", "acme"), keys("beta", "admin", "beta")
    keys("both", "admin", "acme beta"), keys("app", "infer feedback", "acme")
    whole, acme, beta, both, app = (openai(gateway, made.secret) for made in keys.made)
    mine = await acme.files.create(**sent("acme.jsonl"))
    theirs = await beta.files.create(**sent("beta.jsonl"))
    of_both = await both.files.create(**sent("both.jsonl"))
    general = await whole.files.create(**sent("whole.jsonl"))
    everything = {mine.id, theirs.id, of_both.id, general.id}

    async def seen(client: AsyncOpenAI) -> set[str]:
        return {file.id async for file in client.files.list()}

    assert await seen(acme) == {mine.id}
    assert await seen(beta) == {theirs.id}
    assert await seen(both) == {mine.id, theirs.id, of_both.id}
    assert await seen(whole) == everything
    for asked in (acme.files.retrieve, acme.files.content, acme.files.delete):
        words = []
        for name in (theirs.id, "file-" + "0" * 24):
            with pytest.raises(NotFoundError) as refused:
                await asked(name)
            words.append(json.dumps(refused.value.body).replace(name, "NAME"))
        assert words[0] == words[1]
    for call in (app.files.list(), app.files.retrieve(mine.id), app.files.create(**sent())):
        with pytest.raises(APIStatusError) as forbidden:
            await call  # type: ignore[misc]
        assert forbidden.value.code == "insufficient_scope"
    assert (await gateway.http.get("/v1/files")).status_code == 401
    for one in (whole, acme, beta, both, app):
        await one.close()


async def test_a_broken_form_is_a_bad_request(gateway: Gateway) -> None:
    """No boundary, no end, no file: 400 in OpenAI's shape, never 500. What is none is told so."""
    plain = await gateway.http.post("/v1/files", content=ROWS)
    assert (plain.status_code, plain.json()["error"]["code"]) == (415, "form_only")
    for kind, body in (
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
    ):
        answer: httpx.Response = await gateway.http.post(
            "/v1/files", content=body, headers={"content-type": kind}
        )
        assert answer.status_code == 400, (kind, body)
        assert answer.json()["error"]["type"] == "invalid_request_error"
