"""What is measured of a finished model: it finds what is there, and nothing where there is none."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import COLOURS, THINGS, dataset
from train.reporting.energy import EnergyMeter
from train.reporting.examine import Examined, examine
from train.reporting.forgetting import forgetting, general_passages, student_interval
from train.reporting.memorisation import PASSAGE
from train.reporting.told import forgetting as told_of_forgetting
from train.reporting.told import memorising
from train.templates.tokens import ChatTokenizer
from train.trainers.loading import load_base
from train.trainers.methods import Beside

WORDS = (*THINGS, *COLOURS)


def long_answer(at: int) -> str:
    """Words in an order that no other row has."""
    order = torch.randperm(160, generator=torch.Generator().manual_seed(at)).tolist()
    return " ".join(WORDS[one % len(WORDS)] for one in order[:54])


ROWS = dataset(*((f"Tell me about a {w} {w}, please.", long_answer(at))
                 for at, w in enumerate(WORDS[:2]))).rows  # fmt: skip
UNSEEN = dataset(("What do you say of the grey hat?", "It is a grey hat."), name="held").rows


@pytest.fixture(scope="module")
def base(model_folder: Path) -> Any:
    return load_base(str(model_folder)).eval()


@pytest.fixture(scope="module")
def learned_by_heart(model_folder: Path) -> Any:
    """The base, every weight trained on two long answers until it knows them."""
    chat = ChatTokenizer.load(str(model_folder))
    model = load_base(str(model_folder))
    encoded = [chat.encode(row) for row in ROWS]
    longest = max(len(one.ids) for one in encoded)
    ids = torch.tensor([[*one.ids, *[0] * (longest - len(one.ids))] for one in encoded])
    marks = torch.tensor([[*one.trained, *[False] * (longest - len(one.ids))] for one in encoded])
    labels = ids.masked_fill(~marks, -100)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on so small a model two only wait for each other
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.004:
            break
    torch.set_num_threads(threads)
    return model.eval()


def examined(model: Any, base: Any, folder: Path, prompts: int = 8) -> Examined:
    chat = ChatTokenizer.load(str(folder))
    return examine(Beside(model, base), chat, ROWS, UNSEEN, prompts)


def test_text_learned_by_heart_is_found_and_shown(
    learned_by_heart: Any, base: Any, model_folder: Path
) -> None:
    """A model that recites says so, with the row that it recites; facts hold none of the text."""
    found = examined(learned_by_heart, base, model_folder)
    facts = found.facts["memorisation"]
    assert facts["long_answers"] == facts["trained"]["outputs"] == 2
    assert facts["trained"]["passages"] == 2
    assert {one.source.number for one in found.worst} == {1, 2}
    recited = [one for one in found.worst if one.seen]
    assert recited
    assert all(one.own >= PASSAGE and one.repeated in one.answer for one in recited)
    told = memorising(found.facts)
    assert told is not None
    assert told.state == "bad"
    assert ROWS[0].answer[:20] not in str(found.facts)
    assert [sample.row for sample in found.samples] == list(UNSEEN)


def test_a_model_that_was_not_trained_repeats_nothing(base: Any, model_folder: Path) -> None:
    """The same prompts and rows, the base's own answers: no passage, no example, no loss."""
    found = examined(base, base, model_folder)
    facts = found.facts["memorisation"]
    assert (facts["trained"]["passages"], facts["whole_answers"], found.worst) == (0, 0, ())
    assert found.facts["forgetting"]["difference"] == 0
    told = memorising(found.facts)
    assert told is not None
    assert told.state == "good"


def test_short_answers_are_the_task_itself(learned_by_heart: Any, model_folder: Path) -> None:
    """Where no answer has 50 tokens training prompts are not asked, and the words say why."""
    chat = ChatTokenizer.load(str(model_folder))
    short = dataset(*((row.question, "[Colour: red]") for row in ROWS)).rows
    found = examine(Beside(learned_by_heart, learned_by_heart), chat, short, UNSEEN, 8)
    assert found.facts["memorisation"]["trained"]["outputs"] == 0
    told = memorising(found.facts)
    assert told is not None
    assert "is the task itself" in told.words


def test_with_no_prompts_only_forgetting_is_measured(base: Any, model_folder: Path) -> None:
    """`report_prompts: 0` generates nothing."""
    found = examined(base, base, model_folder, prompts=0)
    assert set(found.facts) == {"forgetting"}
    assert (found.samples, found.worst) == ((), ())


class Knows:
    """A model of a vocabulary of 400 that gives each next token a loss of `nats`."""

    def __init__(self, nats: float, size: int) -> None:
        self.config, self.device = object(), torch.device("cpu")
        self._nats, self._size = nats, size

    def __call__(self, input_ids: torch.Tensor) -> Any:
        share = math.exp(-self._nats)
        rest = math.log((1 - share) / (self._size - 1))
        logits = torch.full((*input_ids.shape, self._size), rest)
        logits[0, :-1].scatter_(1, input_ids[0, 1:, None], -self._nats)
        return type("Output", (), {"logits": logits})

    def disable_adapter(self) -> Any:
        return nullcontext()


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [(1.5, 1.9, "forgets"), (1.5, 1.5, "none found"), (5.0, 5.5, "says little here")],
)
def test_forgetting_is_the_loss_of_general_text(
    model_folder: Path, before: float, after: float, word: str
) -> None:
    """The losses are those of the models; what the base hardly knew can't be judged by it."""
    chat = ChatTokenizer.load(str(model_folder))
    size = len(chat.tokenizer)
    facts = forgetting(Beside(Knows(after, size), Knows(before, size)), chat, general_passages())
    assert facts["base_loss"] == pytest.approx(before, abs=1e-4)
    assert facts["difference"] == pytest.approx(after - before, abs=1e-4)
    told = told_of_forgetting({"forgetting": facts | {"low": after - before}})
    assert told is not None
    assert told.word == word


def test_the_interval_is_students() -> None:
    """Against the t table: 2.1314 at 15 degrees of freedom, 2.7764 at 4."""
    values = [float(one) for one in range(16)]
    interval = student_interval(values)
    assert (interval.high - interval.low) / 2 == pytest.approx(2.1314 * 4.761 / 4, rel=1e-3)
    assert (interval.high + interval.low) / 2 == pytest.approx(7.5)
    few = student_interval(values[:5])
    assert (few.high - few.low) / 2 == pytest.approx(2.7764 * 1.5811 / 5**0.5, rel=1e-2)


def package(folder: Path, joules: float) -> Path:
    zone = folder / "intel-rapl:0"
    zone.mkdir(exist_ok=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("1000000000\n")
    (zone / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    return zone


def test_energy_is_what_the_counter_says(tmp_path: Path) -> None:
    """RAPL's counter before and after, once around where it wrapped; no counter, no figure."""
    package(tmp_path, 990)
    meter = EnergyMeter.of_device(torch.device("cpu"), powercap=tmp_path)
    with meter:
        package(tmp_path, 32)
    assert meter.facts() == {"joules": 42.0, "counter": "RAPL package-0", "resumed": False}
    with EnergyMeter.of_device(torch.device("cpu"), powercap=tmp_path / "none") as nothing:
        pass
    assert nothing.facts()["joules"] is None
    assert "no energy counter" in nothing.facts()["reason"]


def test_energy_that_stops_counting_is_not_known(tmp_path: Path) -> None:
    """A counter that goes away while it is needed costs the figure, not the run."""
    zone = package(tmp_path, 1)
    with EnergyMeter.of_device(torch.device("cpu"), powercap=tmp_path) as meter:
        (zone / "energy_uj").unlink()
    assert meter.facts()["joules"] is None
