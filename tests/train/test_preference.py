"""DPO and KTO for real on a tiny base: they prefer what they should, and a kill changes no byte."""

import json
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from hub.errors import InvalidConfig, InvalidData
from hub.home import Home
from hub.registry import Registry
from tests.train.conftest import COLOURS, Maker, chats, make_rows, make_settings
from tests.train.test_sft import Killed, hashes, ignore
from train.config import Settings, TrainConfig
from train.data.formats import read_dataset
from train.data.rows import Message, Row
from train.progress import Progress, TrainResult
from train.run import run_training
from train.templates.tokens import ChatTokenizer
from train.trainers.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from train.trainers.loading import load_base, load_tuned
from train.trainers.methods import require_fit
from train.trainers.preference import encode_answer, label_weights, train_preference
from train.trainers.preferred import answers_of, preference_facts, reference_answers, told

RATE = 0.002


def other_colour(text: str) -> str:
    """The same answer with another colour."""
    colour = next(colour for colour in COLOURS if f" {colour} " in text)
    wrong = COLOURS[(COLOURS.index(colour) + 1) % len(COLOURS)]
    return text.replace(colour, wrong)


def paired(row: Row) -> Row:
    return replace(row, rejected=(Message("assistant", other_colour(row.answer)),), answer_at=1)


def labelled(row: Row) -> Row:
    good = row.number % 2 == 0
    said = row.answer if good else other_colour(row.answer)
    return replace(row, messages=(*row.prompt, Message("assistant", said)), label=good, answer_at=1)


def rows_for(method: str) -> tuple[list[Row], list[Row]]:
    kind = paired if method == "dpo" else labelled
    train, validation = make_rows()
    return list(map(kind, train)), list(map(kind, validation))


def settings_for(method: str, **changes: object) -> Settings:
    return make_settings(method=method, learning_rate=RATE, **changes)


class Trained:
    """One uninterrupted training of each method, that several tests look at."""

    def __init__(self, method: str, base: str, folder: Path) -> None:
        self.method, self.base = method, base
        self.rows = rows_for(method)
        self.result: TrainResult = train_preference(
            settings_for(method), *self.rows, base, folder, progress=ignore
        )


@pytest.fixture(scope="module", params=["dpo", "kto"])
def trained(
    request: pytest.FixtureRequest, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    return Trained(request.param, str(model_folder), folder)


def measured(trained: Trained, adapter: Path, parent: Path | None = None) -> dict[str, float]:
    rows = trained.rows[1]
    before = reference_answers(trained.base, parent, rows, None)
    after = answers_of(load_tuned(trained.base, adapter), ChatTokenizer.load(trained.base), rows)
    return preference_facts(before, after, beta=0.1, reference="r", measured_on="rows")


def test_it_comes_to_prefer_the_better_answers(trained: Trained) -> None:
    """On rows it was not trained on rewards tell better from worse, and its loss has fallen."""
    facts = measured(trained, trained.result.adapter)
    assert facts["reward_margin"] > 0.05
    assert facts["reward_accuracy"] > 0.6
    assert facts["agreement_after"] >= facts["agreement_before"]
    assert facts["reward_chosen"] > facts["reward_rejected"]
    losses = [p.validation_loss for p in trained.result.history if p.validation_loss is not None]
    assert len(losses) == 2
    assert losses[-1] == trained.result.validation_loss < losses[0]


def test_what_comes_out_is_a_plain_adapter(trained: Trained) -> None:
    """Two files in PEFT layout, with the rank of the settings and the base's name."""
    adapter = trained.result.adapter
    assert sorted(path.name for path in adapter.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, "tiny")


def test_stopped_and_resumed_gives_the_same_bytes(
    trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the second epoch; and nothing of the libraries is heard."""

    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == 7:
            raise Killed

    settings = settings_for(trained.method)
    with pytest.raises(Killed):
        train_preference(settings, *trained.rows, trained.base, tmp_path, progress=stop)
    result = train_preference(settings, *trained.rows, trained.base, tmp_path, progress=ignore)
    assert hashes(result.adapter) == hashes(trained.result.adapter)
    assert capfd.readouterr() == ("", "")


def test_the_parent_is_the_reference_and_stays_out_of_the_files(
    trained: Trained, tmp_path: Path
) -> None:
    """DPO's loss begins at log 2 and KTO's at a half: nothing differs yet from the reference, which
    so is the parent and not the base. What comes out has no `ref` folder, and a kill changes no
    byte."""
    parent = trained.result.adapter
    settings = replace(settings_for(trained.method), continue_from="a@1")

    def stop(progress: Progress) -> None:
        if progress.phase == "training" and progress.step == 7:
            raise Killed

    arguments = (settings, *trained.rows, trained.base)
    whole = train_preference(*arguments, tmp_path / "a", progress=ignore, parent=parent)
    start = log(2) if trained.method == "dpo" else 0.5
    assert whole.history[0].loss == pytest.approx(start, abs=1e-5)
    assert sorted(path.name for path in whole.adapter.iterdir()) == [
        ADAPTER_CONFIG, ADAPTER_WEIGHTS,
    ]  # fmt: skip
    with pytest.raises(Killed):
        train_preference(*arguments, tmp_path / "b", progress=stop, parent=parent)
    again = train_preference(*arguments, tmp_path / "b", progress=ignore, parent=parent)
    assert hashes(again.adapter) == hashes(whole.adapter)


def test_only_the_answer_is_compared(model_folder: Path) -> None:
    """An assistant's turn in the prompt is read and not compared; the end of the turn is."""
    chat = ChatTokenizer.load(str(model_folder))
    turns = ("user", "Red car?"), ("assistant", "It is red."), ("user", "Blue car?")
    prompt = tuple(Message(role, text) for role, text in turns)
    answer = (Message("assistant", "It is blue."),)
    row = Row(1, "f", (*prompt, *answer), rejected=(Message("assistant", "No."),), answer_at=3)
    encoded = encode_answer(chat, row, row.completion)
    told_of = [i for i, t in zip(encoded.ids, encoded.trained, strict=True) if t]
    assert chat.tokenizer.decode(told_of) == "It is blue.<|im_end|>"
    assert encoded.trained[-1]
    other = encode_answer(chat, row, row.rejected)
    assert chat.tokenizer.decode(other.ids).endswith("No.<|im_end|>")


def test_weights_make_up_for_labels_that_are_not_balanced() -> None:
    """The rarer label weighs the ratio of the counts (KTO, equation 8), the other one 1."""
    rows = [labelled(row) for row in make_rows()[0]]
    good = [row for row in rows if row.label]
    bad = [row for row in rows if not row.label]
    assert label_weights([*good[:12], *bad[:4]]) == (1.0, 3.0)
    assert label_weights([*good[:4], *bad[:10]]) == (2.5, 1.0)
    assert label_weights(good) == (1.0, 1.0)


def test_answers_that_all_became_unlikely_are_told(model_folder: Path) -> None:
    """Preferring the better of two answers that the model would no longer give is a warning."""
    rows = rows_for("dpo")[1]
    model = load_base(str(model_folder)).eval()
    before = answers_of(model, ChatTokenizer.load(str(model_folder)), rows)
    after = [
        (replace(one, total=one.total - one.tokens), replace(other, total=other.total * 4))
        for one, other in before
        if one is not None and other is not None
    ]
    facts = preference_facts(before, after, beta=0.1, reference="r", measured_on="rows")
    assert facts["agreement_after"] == 1.0
    assert facts["better_before"] - facts["better_after"] == pytest.approx(1.0)
    assert "became less likely" in told(facts)[1]
    same = preference_facts(before, before, beta=0.1, reference="r", measured_on="rows")
    assert (same["reward_margin"], same["reward_accuracy"], len(told(same))) == (0.0, 0.5, 1)


def records(method: str) -> list[dict[str, object]]:
    kind = paired if method == "dpo" else labelled
    pairs = [[m["content"] for m in row["messages"]] for row in chats(40)]
    rows = [
        kind(Row(at, "f", (Message("user", question), Message("assistant", answer))))
        for at, (question, answer) in enumerate(pairs)
    ]
    return [row.to_json() for row in rows]


@pytest.mark.parametrize(
    ("method", "data", "hint"),
    [
        ("sft", "dpo", "--method dpo, or `hub data convert --to messages` first"),
        ("full", "kto", "--method kto, or `hub data convert --to messages` first"),
        ("kto", "dpo", "--method dpo, or `hub data convert --to kto` first"),
        ("dpo", "kto", "Use --method kto."),
    ],
)
def test_data_of_another_kind_names_the_method_that_fits(
    jsonl: Maker, method: str, data: str, hint: str
) -> None:
    """The refusal says what the file holds, which method learns from it, and what converts it."""
    dataset = read_dataset([jsonl(records(data))])
    with pytest.raises(
        InvalidData, match=rf"these are .*, and the method {method} needs "
    ) as refusal:
        require_fit(dataset, method)
    assert hint in (refusal.value.hint or "")


@pytest.mark.parametrize("method", ["sft", "full"])
def test_a_setting_that_is_not_the_methods_is_refused(method: str) -> None:
    """`beta` where nothing reads it, a batch of one for KTO, and LoRA's own for full."""
    given = {"adapter": "a", "data": "x.jsonl", "method": method}
    with pytest.raises(InvalidConfig, match="beta: goes with method dpo or kto"):
        TrainConfig.load(None, {**given, "beta": 0.2})
    with pytest.raises(InvalidConfig, match="batch_size: kto compares"):
        TrainConfig.load(None, {**given, "method": "kto", "batch_size": 1})
    with pytest.raises(InvalidConfig) as refusal:
        TrainConfig.load(
            None, {**given, "method": "full", "alpha": 4, "rslora": True, "quantize": "nf4"}
        )
    assert [p.split(":")[0] for p in refusal.value.problems] == ["alpha", "rslora", "quantize"]


def test_a_run_reports_what_it_prefers(
    registry: Registry, home: Home, asked: TrainConfig, jsonl: Maker
) -> None:
    """Method, beta and the figures are in the lineage, and a line says them while it runs."""
    changes = {"method": "dpo", "data": (jsonl(records("dpo"), "pairs.jsonl"),),
               "learning_rate": RATE}  # fmt: skip
    notes: list[str] = []

    def listen(progress: Progress) -> None:
        if progress.note:
            notes.append(progress.note)

    run = run_training(registry, home, asked.model_copy(update=changes), progress=listen)
    facts = run.lineage
    assert facts is not None
    assert (run.method, facts["method"], facts["config"]["beta"]) == ("dpo", "dpo", 0.1)
    assert facts["preference"]["measured_on"] == "validation rows"
    assert facts["preference"]["reference"] == "tiny"
    assert facts["preference"]["rows"] == facts["dataset"]["validation_rows"]
    assert facts["preference"]["reward_margin"] != 0
    assert "beta 0.1" in notes[0]
    assert "alpha" in facts["config"]["filled"]
    assert "rank" not in facts["config"]["filled"]
    assert "under 10 M" in notes[0]
    assert any("prefers the better answer in" in note for note in notes)
    page = (home.runs / run.id / "report.html").read_text()
    assert "DPO&#x27;s loss by step" in page
    assert f"{facts['preference']['reward_accuracy']:.1%}" in page
