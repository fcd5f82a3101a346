"""What the console and `hub` ask of /hub."""

import json
from dataclasses import replace
from pathlib import Path

from hub.home import Home
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running


async def test_feedback_attaches_to_the_interaction_just_answered(
    gateway: Gateway, published: Publish
) -> None:
    """Thumb, edit and tags: 201 each, and all three on the interaction."""
    published("support")
    answered = (await gateway.chat("support")).headers["x-hub-interaction-id"]
    for said in ({"thumb": -1, "comment": "no"}, {"edit": "Better."}, {"tags": ["tone", "facts"]}):
        answer = await gateway.http.post("/hub/feedback", json={"interaction_id": answered, **said})
        assert answer.status_code == 201
    entry = (await gateway.http.get(f"/hub/interactions/{answered}")).json()
    assert [given["kind"] for given in entry["feedback"]] == ["thumb", "edit", "tags"]
    assert entry["feedback"][2]["tags"] == ["tone", "facts"]
    assert entry["request"]["messages"]
    assert entry["response"]["choices"][0]["finish_reason"] == "stop"


async def test_feedback_that_says_nothing_or_on_nothing_is_refused(gateway: Gateway) -> None:
    """400 for none or two at once or an unknown field, 404 for an unknown interaction."""
    answered = (await gateway.chat("base")).headers["x-hub-interaction-id"]
    wrong = [{}, {"thumb": 1, "edit": "x"}, {"thumb": 7}, {"edit": " "}, {"thumb": 1, "star": 5}]
    wrong += [{"thumb": True}, {"thumb": "1"}, {"thumb": 1.0}]
    wrong += [{"tags": tags} for tags in ([], [""], ["x" * 65], ["tone"] * 21, "tone")]
    for said in wrong:
        answer = await gateway.http.post("/hub/feedback", json={"interaction_id": answered, **said})
        assert answer.status_code == 400, said
    most = {"interaction_id": answered, "tags": ["x" * 64] * 20}
    assert (await gateway.http.post("/hub/feedback", json=most)).status_code == 201
    answer = await gateway.http.post(
        "/hub/feedback", json={"interaction_id": "int_nope", "thumb": 1}
    )
    assert answer.status_code == 404
    assert (await gateway.http.get("/hub/interactions/int_nope")).status_code == 404


async def test_adapters_tells_the_served_base(gateway: Gateway, published: Publish) -> None:
    """Names, counts, newest numbers, aliases: what the console makes its pickers of."""
    published("support")
    newest = published("support")
    listed = (await gateway.http.get("/hub/adapters")).json()
    assert listed["base"]["name"] == "tiny"
    assert listed["items"] == [
        {
            "name": "support",
            "base": "tiny",
            "versions": 2,
            "newest": 2,
            "aliases": {"production": 1},
            "updated_at": newest.published_at,
        }
    ]


async def test_suggestions_come_from_the_bases_folder(
    home: Home, settings: Settings, tmp_path: Path
) -> None:
    """The file's prompts; none where it is missing or something else."""
    base = replace(settings.base, source=str(tmp_path))
    settings = replace(settings, base=base)
    async with running(home, settings, make_engines(home, settings)) as gateway:
        for content, expected in (
            (None, []),
            ("{", []),
            ("[1]", []),
            (json.dumps({"prompts": ["Hi", 3]}), ["Hi"]),
        ):
            if content is not None:
                (tmp_path / "suggestions.json").write_text(content)
            answer = await gateway.http.get("/hub/suggestions")
            assert answer.json() == {"prompts": expected}
