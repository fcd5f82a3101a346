"""What a training run is told: `TrainConfig` as people write it, `Settings` with nothing left open.

A config comes from a YAML file, from flags, or from both (flags win). What it leaves out is filled
in by a preset once the base and the rows are known. Every problem is reported at once, each with
the setting's name.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hub.errors import HubError, InvalidConfig, InvalidData
from hub.names import AdapterRef, parse_base_name, parse_name, parse_reference
from train.configfaults import problem
from train.data.formats_files import kept_name
from train.data.formats_map import known_field
from train.linting.overlong import Overlong
from train.presets import BETA, PREFERENCES, BaseFacts, Method, PresetName, choose
from train.sweepplan import AskedSweep, parse_sweep

T = TypeVar("T")
REPORT_PROMPTS = 64
_ANY_RANK = 16  # to see whether a rank may be set at all


def _adapter_name(text: str) -> str:
    return _in_words(parse_name, text)


def _version_reference(text: str) -> str:
    if not isinstance(_in_words(parse_reference, text), AdapterRef):
        raise ValueError("must name one version, such as support@3")
    return text


def _sweep_text(text: str) -> str:
    _in_words(parse_sweep, text)
    return text


def _launch_text(text: str) -> str:
    import shlex

    shlex.split(text)  # raises ValueError, such as "No closing quotation"
    return text


def _base_name(text: str) -> str:
    _in_words(parse_base_name, text)
    return text


def _in_words(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except HubError as error:
        raise ValueError(f"{error.message}. {error.hint or ''}".strip()) from error


def _known_fields(columns: dict[str, str]) -> dict[str, str]:
    return {_in_words(known_field, name): column for name, column in columns.items()}


class TrainConfig(BaseModel):
    """A run as it is asked for. None means: by the preset.

    `epochs`, `batch_size` (rows a step on one device) and `max_length` (tokens a row) are what they
    are everywhere; `overlong` says what becomes of longer rows (`train.linting.overlong`);
    `validation` is the share of rows kept to validate on; `heldout` names files whose questions
    must not be in the data, and `validate_on_heldout` validates on those instead; `columns` says
    which column of a file holds a field (`instruction: question`); `early_stopping_patience` counts
    evaluations without improvement, of which there are one or more an epoch (0 never stops early).
    `beta` holds dpo and kto to their reference. `publish_as` and `new_base` say what a full
    fine-tuning becomes. `sweep` is `KEY` or `KEY=V1,V2,…` (`train.sweepplan`). `processes` train
    together, each with batches of its own; `launch` is passed to `accelerate launch`, which starts
    them. What each setting means in a line is in `train.configtext`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Annotated[str, AfterValidator(_adapter_name)]
    data: Annotated[tuple[Path, ...], Field(min_length=1)]
    heldout: tuple[Path, ...] = ()
    validate_on_heldout: bool = False
    base: str | None = None
    method: Method = "sft"
    beta: Annotated[float, Field(gt=0, le=10)] | None = None
    publish_as: Literal["adapter", "base"] | None = None
    new_base: Annotated[str, AfterValidator(_base_name)] | None = None
    sweep: Annotated[str, AfterValidator(_sweep_text)] | None = None
    preset: PresetName = "auto"
    continue_from: Annotated[str, AfterValidator(_version_reference)] | None = None
    rank: Annotated[int, Field(ge=1, le=512)] | None = None
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    rslora: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    warmup_ratio: Annotated[float, Field(ge=0, le=0.5)] | None = None
    epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    gradient_accumulation: Annotated[int, Field(ge=1, le=4096)] = 1
    max_length: Annotated[int, Field(ge=16)] | None = None
    overlong: Overlong = "error"
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    early_stopping_patience: Annotated[int, Field(ge=0)] = 2
    quantize: Literal["nf4"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    columns: Annotated[dict[str, str], AfterValidator(_known_fields)] = {}
    processes: Annotated[int, Field(ge=1, le=1024)] = 1
    launch: Annotated[str, AfterValidator(_launch_text)] | None = None
    report_prompts: Annotated[int, Field(ge=0, le=10_000)] = REPORT_PROMPTS
    publish: bool = True

    @model_validator(mode="before")
    @classmethod
    def _one_file_is_a_list(cls, raw: Any) -> Any:
        """`data: train.jsonl` means a list of one; JSON and YAML writers expect that."""
        if not isinstance(raw, dict):
            return raw
        return {
            key: [value] if key in ("data", "heldout") and isinstance(value, str | Path) else value
            for key, value in raw.items()
        }

    @model_validator(mode="after")
    def _method_reads_its_settings(self) -> Self:
        """A setting that the method or the parent would overrule is refused, never ignored."""
        problems = [f"{name}: {reason}" for name, wrong, reason in _misplaced(self) if wrong]
        if not problems and self.sweep is not None:
            problems = self._sweep_problems(parse_sweep(self.sweep))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _sweep_problems(self, asked: AskedSweep) -> list[str]:
        """What is wrong with the runs of a sweep; its values win over a value that is set."""
        plain = self.model_dump(mode="json", exclude={"sweep"})
        values = (_ANY_RANK,) if asked.values is None and asked.key == "rank" else asked.values
        lines = (line for value in values or () for line in
                 type(self).problems({**plain, asked.key: value}))  # fmt: skip
        return [f"sweep: {line}" for line in dict.fromkeys(lines)]

    @classmethod
    def load(cls, path: Path | None, overrides: Mapping[str, Any]) -> Self:
        """Read a YAML file, if one is given, and let the overrides that are not None win.

        Paths in the file are relative to the current folder, as on the command line.

        Raises:
            InvalidData: when the file cannot be read as YAML.
            InvalidConfig: with every setting that is unusable.
        """
        raw = read_yaml(path) if path is not None else {}
        raw |= {key: value for key, value in overrides.items() if value is not None}
        problems = cls.problems(raw)
        if problems:
            raise InvalidConfig(problems, where=str(path) if path is not None else None)
        return cls.model_validate(raw)

    @classmethod
    def problems(cls, raw: Mapping[str, Any]) -> list[str]:
        """All that is wrong with settings as they were written, a line each."""
        faults = _faults(raw)
        wrong = {str(fault["loc"][0]) for fault in faults if fault["loc"]}
        if wrong:
            # How settings go together is only looked at where each by itself is right.
            right = {key: value for key, value in raw.items() if key not in wrong}
            faults += _faults({"adapter": "any", "data": "any", **right})
        return [line for fault in faults for line in problem(fault, cls.model_fields).split("\n")]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Settings:
    """A run with nothing left open: what the trainer is given, and what lineage records.

    `base` is the base's name in the registry, `alpha` LoRA's alpha as peft counts it (the update is
    scaled by alpha / rank, or alpha / sqrt(rank) with rsLoRA). `filled` names what the preset set,
    and `preset_reason` says why it is this preset. `sweep` is what `train.sweep` knows the run by.
    Of a full fine-tuning `rank` is what its difference is factored to.
    """

    adapter: str
    data: tuple[str, ...]
    heldout: tuple[str, ...]
    base: str
    method: str
    preset: str
    continue_from: str | None
    rank: int
    alpha: int
    rslora: bool
    dropout: float
    learning_rate: float
    warmup_ratio: float
    epochs: int
    batch_size: int
    gradient_accumulation: int
    max_length: int
    validation: float
    early_stopping_patience: int
    quantize: str | None
    seed: int
    columns: dict[str, str] = field(default_factory=dict)
    beta: float | None = None
    publish_as: str | None = None
    new_base: str | None = None
    preset_reason: str = ""
    filled: tuple[str, ...] = ()
    sweep: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    launch: str | None = None
    report_prompts: int = REPORT_PROMPTS
    publish: bool = True
    validate_on_heldout: bool = False
    overlong: Overlong = "error"

    @property
    def cut(self) -> int | None:
        """Tokens that a row is cut at, where rows are cut."""
        return self.max_length if self.overlong == "truncate" else None

    def to_json(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
        }
        return cls(**values)


def settle(
    config: TrainConfig,
    *,
    base_name: str,
    base: BaseFacts,
    rows: int,
    learned: int | None = None,
) -> Settings:
    """Fill in by preset what the config leaves open; `learned` counts the tokens trained on.

    Raises:
        InvalidConfig: when `max_length` is more than the base can read.
    """
    if base.context is not None and config.max_length is not None:
        _fits(config.max_length, base.context, base_name)
    preset, reason = choose(config.preset, base=base, rows=rows, learned=learned)
    rank = config.rank or preset.rank
    full = config.method == "full"
    own_shape = config.continue_from is not None or config.publish_as == "base"
    filled = (
        () if full or own_shape or config.alpha else ("alpha",),
        () if own_shape or config.rank else ("rank",),
        () if config.learning_rate else ("learning_rate",),
        () if config.epochs else ("epochs",),
        () if config.batch_size else ("batch_size",),
        () if config.warmup_ratio is not None else ("warmup_ratio",),
        () if config.beta or config.method not in PREFERENCES else ("beta",),
    )
    return Settings(
        adapter=config.adapter,
        data=tuple(kept_name(source) for source in config.data),
        heldout=tuple(kept_name(source) for source in config.heldout),
        base=base_name,
        method=config.method,
        preset=preset.name,
        continue_from=config.continue_from,
        rank=rank,
        # A difference of weights is factored as it is, at scale 1.
        alpha=rank if full else config.alpha or preset.alpha(rank, rslora=config.rslora),
        rslora=config.rslora,
        dropout=config.dropout,
        learning_rate=config.learning_rate or preset.rate(base, config.method),
        warmup_ratio=preset.warmup_ratio if config.warmup_ratio is None else config.warmup_ratio,
        epochs=config.epochs or preset.rounds(config.method),
        batch_size=config.batch_size or preset.batch_size,
        gradient_accumulation=config.gradient_accumulation,
        max_length=config.max_length or base.max_length(),
        validation=config.validation,
        early_stopping_patience=config.early_stopping_patience,
        quantize=config.quantize,
        seed=config.seed,
        columns=config.columns,
        beta=(config.beta or BETA) if config.method in PREFERENCES else None,
        publish_as=(config.publish_as or "adapter") if full else None,
        new_base=(config.new_base or config.adapter) if config.publish_as == "base" else None,
        preset_reason=reason,
        filled=tuple(name for names in filled for name in names),
        processes=config.processes,
        launch=config.launch,
        report_prompts=config.report_prompts,
        publish=config.publish,
        validate_on_heldout=config.validate_on_heldout,
        overlong=config.overlong,
    )


def _misplaced(config: TrainConfig) -> list[tuple[str, bool, str]]:
    """(setting, whether it is wrong here, what to do) for what goes with some methods only."""
    full, base = config.method == "full", config.publish_as == "base"
    trains_none = "goes with an adapter that is trained, and method full trains the base's weights"
    no_adapter = "a base of its own has no adapter: leave it out, or set publish_as: adapter"
    given = config.beta is not None
    parents = "is the parent's when `continue_from` (--from) is given: leave it out"
    continues = config.continue_from is not None
    return [
        ("rank", continues and config.rank is not None, parents),
        ("alpha", continues and config.alpha is not None, parents),
        ("rslora", continues and config.rslora, parents),
        ("beta", given and config.method not in PREFERENCES, "goes with method dpo or kto"),
        (
            "overlong",
            config.overlong == "truncate" and config.method in PREFERENCES,
            "dpo and kto compare whole answers, and truncate would cut them: use drop",
        ),
        ("alpha", full and config.alpha is not None, trains_none),
        ("rslora", full and config.rslora, trains_none),
        ("dropout", full and config.dropout > 0, trains_none),
        ("quantize", full and config.quantize is not None, trains_none),
        (
            "validate_on_heldout",
            config.validate_on_heldout and not config.heldout,
            "there is no heldout file to validate on",
        ),
        ("publish_as", config.publish_as is not None and not full, "goes with method full"),
        ("new_base", config.new_base is not None and not base, "goes with publish_as: base"),
        ("rank", base and config.rank is not None, no_adapter),
        (
            "batch_size",
            config.method == "kto" and config.batch_size == 1,
            "kto compares the rows of a batch with each other: 2 or more",
        ),
        (
            "validation",
            config.sweep is not None and config.validation == 0,
            "a sweep compares validation losses: keep some rows, such as 0.1",
        ),
    ]


def _fits(wanted: int, context: int, base_name: str) -> None:
    if wanted > context:
        raise InvalidConfig(
            [f"max_length: {wanted} is more than the {context} tokens that '{base_name}' can read"]
        )


def _faults(raw: Mapping[str, Any]) -> list[Any]:
    try:
        TrainConfig.model_validate(raw)
    except ValidationError as error:
        return list(error.errors())
    return []


def read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # comes with transformers; the light commands never get here

    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text)
    except OSError as error:
        raise InvalidData(f"can't be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidData("not valid YAML: it is not UTF-8 text", where=str(path)) from error
    # PyYAML lets through what a date that is none, or too deep a nesting, raises.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or error
        raise InvalidData(f"not valid YAML: {reason}", where=where) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InvalidData("the file must be a list of `setting: value` lines", where=str(path))
    first: dict[str, int] = {}  # YAML takes the last of several without a word
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(document, yaml.MappingNode)  # as a dict was made of it
    for key, _ in document.value:
        line = key.start_mark.line + 1
        if (before := first.setdefault(str(key.value), line)) != line:
            where = f"{path}, line {line}"
            raise InvalidData(f"{key.value} is set already, on line {before}", where=where)
    return {str(key): value for key, value in raw.items()}
