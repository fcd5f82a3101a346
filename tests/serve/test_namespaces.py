"""Keys that are limited to namespaces: what they may not use is as if it had never been."""

import json
from dataclasses import replace
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import Any

from hub.registry import Registry
from tests.serve.conftest import MESSAGES, Gateway, Publish
from tests.serve.keyed import Keys, keys, send

__all__ = ["keys"]

# What is asked of a hub with other people's adapters, and of one without them.
LOOKED_AT = [
    "/v1/models", "/v1/models/base", "/v1/models/acme/x", "/v1/models/acme/x@1", "/hub/adapters",
    "/hub/adapters?limit=1", "/hub/aliases", "/hub/adapters/acme/x", "/hub/adapters/acme/x@1",
    "/hub/adapters/acme/x/-/versions", "/hub/adapters/acme/x/-/aliases",
    "/hub/adapters/acme/x/-/history", "/hub/adapters/acme/x/-/version",
    "/hub/adapters/acme/x/-/resolve", "/hub/adapters/acme/x@2/-/lineage",
    "/hub/adapters/acme/x@1/-/lineage", "/hub/adapters/acme/x@2/-/card",
    "/hub/adapters/acme/x@2/-/files/README.md", "/hub/adapters/acme/x@2/-/files/none",
    "/hub/adapters/acme/x@1/-/manifest", "/hub/adapters/acme/x@1/-/evaluations",
    "/hub/adapters/acme/x/-/signatures", "/hub/diff?a=acme/x@1&b=acme/x@2",
    "/hub/diff?a=acme/x@1&b=NAME@1", "/hub/residency", "/hub/suggestions", "/hub/protected-aliases",
    "/v1/models/NAME", "/v1/models/NAME@1", "/v1/models/NAME@sha256:DIGEST", "/hub/adapters/NAME",
    "/hub/adapters/NAME@1", "/hub/adapters/NAME/-/versions", "/hub/adapters/NAME/-/aliases",
    "/hub/adapters/NAME/-/history", "/hub/adapters/NAME/-/version", "/hub/adapters/NAME/-/resolve",
    "/hub/adapters/NAME/-/resolve?at=2090-01-01", "/hub/adapters/NAME@1/-/lineage",
    "/hub/adapters/NAME@1/-/card", "/hub/adapters/NAME@1/-/files/adapter_config.json",
    "/hub/adapters/NAME@1/-/manifest", "/hub/adapters/NAME@1/-/evaluations",
    "/hub/adapters/NAME@1/-/signatures", "/hub/adapters/acme/none", "/v1/models/acme/none",
    "/hub/doctor", "/hub/keys", "/metrics",
]  # fmt: skip
CHANGED = [
    ("POST", "/v1/chat/completions", {"model": "NAME", "messages": MESSAGES}),
    ("POST", "/v1/chat/completions", {"model": "NAME@1", "messages": MESSAGES}),
    ("POST", "/v1/completions", {"model": "NAME@sha256:DIGEST", "prompt": "Hello"}),
    ("POST", "/v1/embeddings", {"model": "NAME", "input": "Hello"}),
    ("POST", "/v1/responses", {"model": "NAME", "input": "Hello"}),
    ("POST", "/hub/comparisons", {"messages": MESSAGES, "arms": ["base", "NAME"]}),
    ("PUT", "/hub/adapters/NAME/-/aliases/canary", {"to": "1"}),
    ("DELETE", "/hub/adapters/NAME/-/aliases/canary?why=x", None),
    ("POST", "/hub/adapters/NAME/-/rollback", {"why": "x"}),
    ("DELETE", "/hub/adapters/NAME@1", None),
    ("DELETE", "/hub/adapters/NAME?why=x", None),
    ("POST", "/hub/adapters/NAME@1/-/verify", {"effect": False}),
    ("POST", "/hub/verify", {"effect": False}),
    ("POST", "/hub/gc", {"keep_days": 0, "dry_run": True}),
    ("PUT", "/hub/protected-aliases/canary", {}),
    ("POST", "/hub/residency/load", {"adapter": "NAME"}),
    ("POST", "/hub/residency/pin", {"adapter": "NAME"}),
    ("POST", "/hub/residency/unload", {"adapter": "NAME"}),
    ("POST", "/hub/adapters/NAME/-/versions", {"files": [], "lineage": {}}),
    (
        "POST",
        "/hub/adapters/NAME/-/versions",
        {"files": [{"path": "adapter_config.json", "sha256": "BLOB", "size": 1}], "lineage": {}},
    ),
    (
        "POST",
        "/hub/adapters/acme/x/-/versions",
        {"files": [{"path": "adapter_config.json", "sha256": "BLOB", "size": 1}], "lineage": {}},
    ),
    ("HEAD", "/hub/blobs/BLOB", None),
]


async def asked(gateway: Gateway, headers: dict[str, str], fills: dict[str, str]) -> list[Any]:
    """Everything that can be seen of the answers, less what no two answers share."""
    seen = []
    for method, path, body in [*(("GET", path, None) for path in LOOKED_AT), *CHANGED]:
        filled = json.loads(fill(json.dumps([path, body]), fills))
        if method == "DELETE":
            answer = await gateway.http.delete(filled[0], headers=headers)
        else:
            answer = await send(gateway, method, filled[0], headers, filled[1])
        dropped = ("date", "x-request-id", "content-length", "etag", "link")
        kept = {k: v for k, v in answer.headers.items() if k not in dropped}
        text = answer.text
        for name, value in fills.items():
            text = text.replace(value, name)
        seen.append((method, path, answer.status_code, kept, text))
    return seen


def fill(text: str, fills: dict[str, str]) -> str:
    for name, value in fills.items():
        text = text.replace(name, value)
    return text


async def test_what_a_key_may_not_use_is_as_if_it_had_never_been(
    gateway: Gateway, keys: Keys, published: Publish, registry: Registry
) -> None:
    """Every answer to a key of `acme`, about the names of others that exist and of such that do
    not, is the same but for the name: status, headers and words; lists and counts too."""
    theirs = published("other/x")
    published("acme/x"), published("acme/x"), published("plain")
    admin = keys("acme-admin", "admin", "acme")
    await gateway.http.get("/v1/models", headers=keys("whole", "admin"))
    whole = {"authorization": f"Bearer {keys.made[-1].secret}"}
    await gateway.http.post(
        "/v1/chat/completions", json={"model": "other/x", "messages": MESSAGES}, headers=whole
    )
    blob = theirs.manifest.files[0].sha256
    there = {"DIGEST": theirs.digest, "BLOB": theirs.manifest.files[1].sha256}
    nowhere = {"DIGEST": "d" * 64, "BLOB": "b" * 64}
    answers = [
        await asked(gateway, admin, {"NAME": name, **more})
        for name, more in (
            ("other/x", there), ("other/y", nowhere), ("plain", there), ("nyet", nowhere)
        )
    ]  # fmt: skip
    for others in answers[1:]:
        for one, other in zip(answers[0], others, strict=True):
            assert one == other
    everything = json.dumps(answers[0])
    assert "other/" not in everything
    assert "'plain" not in everything
    assert theirs.digest[:12] not in everything
    statuses = {(method, path): status for method, path, status, _, _ in answers[0]}
    for (method, path), status in statuses.items():
        if "NAME" in path:
            assert status in (404, 400), (method, path, status)
    assert statuses["HEAD", "/hub/blobs/BLOB"] == 404
    assert statuses["GET", "/metrics"] == 403
    # Where the whole admin sees something, so that the list above asks for the right things.
    for path in LOOKED_AT:
        filled = fill(path, {"NAME": "other/x", **there})
        if "none" not in path:
            assert (await gateway.http.get(filled, headers=whole)).status_code == 200, path
    assert (await gateway.http.head(f"/hub/blobs/{blob}", headers=whole)).status_code == 200
    assert (await gateway.http.head(f"/hub/blobs/{blob}", headers=admin)).status_code == 200
    assert registry.aliases.of("other/x") == {"production": 1}


async def test_a_record_names_no_one_outside(
    gateway: Gateway, keys: Keys, registry: Registry, published: Publish
) -> None:
    """A version's parent and what it was evaluated against are left out where they lie outside."""
    mine, theirs = published("acme/x"), published("other/secret")
    with Registry.open(gateway.home) as writing:
        writing.versions.add(
            "acme/x",
            replace(mine.manifest, files=published("third/x").manifest.files),
            rank=4,
            lineage={"parent": "other/secret@1", "parent_digest": theirs.digest},
            parent=theirs,
        )
        dataset = writing.ledger.add_dataset(
            digest="d", name="d", source="d", format="d", rows=1, lint={}
        )
        writing.ledger.add_evaluation(
            writing.versions.get("acme/x", 2), against="other/secret@1", dataset=dataset,
            metric="exact", verdict="PASS", result={"summary": "better than other/secret@1"},
        )  # fmt: skip
    whole, limited = keys("whole"), keys("limited", "infer", "acme")
    paths = [f"/hub/adapters/acme/x@2/-/{part}" for part in ("version", "lineage", "evaluations")]
    paths += ["/hub/adapters/acme/x/-/versions", "/hub/diff?a=acme/x@1&b=acme/x@2"]
    paths += ["/hub/adapters/acme/x@2/-/card", "/hub/adapters/acme/x@2/-/files/README.md"]
    for path in paths:
        answer = await gateway.http.get(path, headers=whole)
        assert "other/secret" in answer.text, path
        answer = await gateway.http.get(path, headers=limited)
        assert answer.status_code == 200
        assert "secret" not in answer.text, path
        assert theirs.digest not in answer.text


async def test_a_hash_opens_no_file_of_others(
    gateway: Gateway, keys: Keys, published: Publish, tmp_path: Path
) -> None:
    """What is not theirs has to be sent, though the hub has it; then it is published as usual."""
    published("other/x")
    admin = keys("acme", "admin", "acme")
    rival = keys("rival", "admin", "rival")
    folder = tmp_path / "made-1"
    files = [
        {"path": path.name, "sha256": sha256(path), "size": path.stat().st_size}
        for path in sorted(folder.iterdir())
    ]
    publishing = ("/hub/adapters/acme/x/-/versions", {"files": files, "lineage": {}})
    refused = await gateway.http.post(publishing[0], json=publishing[1], headers=admin)
    assert refused.json()["error"]["code"] == "files_missing"
    octets = {"content-type": "application/octet-stream"}
    for file in files:
        path = f"/hub/blobs/{file['sha256']}"
        assert (await gateway.http.head(path, headers=admin)).status_code == 404
        content = (folder / str(file["path"])).read_bytes()
        sent = await gateway.http.put(path, content=content, headers={**admin, **octets})
        assert sent.status_code == 201
        assert (await gateway.http.head(path, headers=admin)).status_code == 200
        assert (await gateway.http.head(path, headers=rival)).status_code == 404
    made = await gateway.http.post(publishing[0], json=publishing[1], headers=admin)
    assert made.json()["version"] == "acme/x@1"
    shown = (await gateway.http.get("/hub/adapters/acme/x@1", headers=admin)).json()
    assert shown["published_by"] == "acme"
    # Both have the file, and neither hears of the other.
    removed = await gateway.http.delete("/hub/adapters/acme/x?why=x", headers=admin)
    assert removed.json()["size"] > 0


def sha256(path: Path) -> str:
    return hash_of(path.read_bytes()).hexdigest()


async def test_what_others_have_asked_and_said_is_not_there(
    gateway: Gateway, keys: Keys, published: Publish
) -> None:
    """Interactions, feedback and comparisons: one's own and those of one's adapters, else 404 in
    the words for an id that there never was."""
    published("acme/x"), published("other/x")
    acme, helper = keys("acme", "infer feedback", "acme"), keys("helper", "feedback", "acme")
    other, whole = keys("other", "infer feedback", "other"), keys("whole", "infer feedback")

    async def chat(model: str, headers: dict[str, str]) -> str:
        body = {"model": model, "messages": MESSAGES}
        answer = await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200
        return answer.headers["x-hub-interaction-id"]

    ids = {name: await chat(*of) for name, of in {
        "tuned": ("acme/x", acme), "base": ("base", acme), "foreign": ("other/x", other)
    }.items()}  # fmt: skip
    visible = {
        "acme": (acme, {"tuned", "base"}), "helper": (helper, {"tuned"}),
        "other": (other, {"foreign"}), "whole": (whole, {"tuned", "base", "foreign"}),
    }  # fmt: skip
    for headers, expected in visible.values():
        for name, interaction in ids.items():
            for path, body in (
                (f"/hub/interactions/{interaction}", None),
                ("/hub/feedback", {"interaction_id": interaction, "thumb": 1}),
            ):
                method = "GET" if body is None else "POST"
                answer = await send(gateway, method, path, headers, body)
                assert (answer.status_code < 300) is (name in expected), (path, name)
                if name not in expected:
                    never = await gateway.http.get("/hub/interactions/int_0", headers=headers)
                    words = answer.json()["error"]["message"].replace(interaction, "int_0")
                    assert never.json()["error"]["message"] == words
    asked = {"messages": MESSAGES, "arms": ["base", "acme/x"]}
    made = await gateway.http.post("/hub/comparisons", json=asked, headers=acme)
    path = f"/hub/comparisons/{made.json()['id']}"
    voting = {"vote": "tie"}
    assert (await gateway.http.get(f"{path}/stream", headers=other)).status_code == 404
    assert (await gateway.http.get(f"{path}/stream", headers=acme)).status_code == 200
    answer = await gateway.http.post(f"{path}/vote", json=voting, headers=other)
    assert answer.status_code == 404
    answer = await gateway.http.post(f"{path}/vote", json=voting, headers=acme)
    assert answer.status_code == 200
    assert {entry.key for entry in gateway.logged()} == {keys.made[0].key.id, keys.made[2].key.id}


async def test_no_number_counts_what_others_do(
    gateway: Gateway, keys: Keys, published: Publish
) -> None:
    """Feedback comes back the same however much others gave meanwhile; and of engines a key that is
    limited to namespaces learns neither where they are nor how often they came up."""
    published("acme/x"), published("other/x")
    acme, other = (keys(name, "infer feedback", name) for name in ("acme", "other"))

    async def thumb(model: str, headers: dict[str, str]) -> dict[str, object]:
        body = {"model": model, "messages": MESSAGES}
        answer = await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        given = {"interaction_id": answer.headers["x-hub-interaction-id"], "thumb": 1}
        said = await gateway.http.post("/hub/feedback", json=given, headers=headers)
        own = ("at", "interaction_id")  # its time, and a random id
        return {name: value for name, value in said.json().items() if name not in own}

    before = await thumb("acme/x", acme)
    for _ in range(3):
        await thumb("other/x", other)
    assert await thumb("acme/x", acme) == before

    for headers, known in ((acme, False), (keys("whole", "infer"), True)):
        (engine,) = (await gateway.http.get("/hub/residency", headers=headers)).json()["engines"]
        assert (engine["url"] is not None, engine["generation"] is not None) == (known, known)
