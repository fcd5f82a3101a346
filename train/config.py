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
from train.formats_files import kept_name
from train.formats_map import known_field
from train.presets import BETA, PREFERENCES, BaseFacts, Method, PresetName, choose
from train.sweepplan import parse_sweep

T = TypeVar("T")


def _adapter_name(text: str) -> str:
    return _in_words(parse_name, text)


def _version_reference(text: str) -> str:
    if not isinstance(_in_words(parse_reference, text), AdapterRef):
        raise ValueError("must name one version, such as support@3")
    return text


def _sweep_text(text: str) -> str:
    _in_words(parse_sweep, text)
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
    are everywhere; `validation` is the share of rows kept to validate on; `heldout` names files
    whose questions must not be in the data; `columns` says which column of a file holds a field
    (`instruction: question`); `early_stopping_patience` counts evaluations without
    improvement, of which there are one or more an epoch (0 never stops early). `beta` is what holds
    dpo and kto to their reference. `publish_as` and `new_base` say what a full fine-tuning becomes.
    `sweep` is `KEY` or `KEY=V1,V2,…` (`train.sweepplan`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Annotated[str, AfterValidator(_adapter_name)]
    data: Annotated[tuple[Path, ...], Field(min_length=1)]
    heldout: tuple[Path, ...] = ()
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
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    early_stopping_patience: Annotated[int, Field(ge=0)] = 2
    quantize: Literal["nf4"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    columns: Annotated[dict[str, str], AfterValidator(_known_fields)] = {}

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
    def _parent_decides_the_shape(self) -> Self:
        set_here = self.rank is not None or self.alpha is not None or self.rslora
        if self.continue_from is not None and set_here:
            raise ValueError(
                "rank, alpha and rslora are the parent's when `continue_from` is given: "
                "leave them out"
            )
        return self

    @model_validator(mode="after")
    def _method_reads_its_settings(self) -> Self:
        """A setting that the method would not read is refused, never ignored."""
        problems = [f"{name}: {reason}" for name, wrong, reason in _misplaced(self) if wrong]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def load(cls, path: Path | None, overrides: Mapping[str, Any]) -> Self:
        """Read a YAML file, if one is given, and let the overrides that are not None win.

        Paths in the file are relative to the current folder, as on the command line.

        Raises:
            InvalidData: when the file cannot be read as YAML.
            InvalidConfig: with every setting that is unusable.
        """
        raw = _read_yaml(path) if path is not None else {}
        raw |= {key: value for key, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise InvalidConfig(
                [line for fault in error.errors() for line in _problem(fault).split("\n")],
                where=str(path) if path is not None else None,
            ) from error

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
        alpha=rank if full else config.alpha or rank * preset.alpha_over_rank,
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
    )


def _misplaced(config: TrainConfig) -> list[tuple[str, bool, str]]:
    """(setting, whether it is wrong here, what to do) for what goes with some methods only."""
    full, base = config.method == "full", config.publish_as == "base"
    trains_none = "goes with an adapter that is trained, and method full trains the base's weights"
    no_adapter = "a base of its own has no adapter: leave it out, or set publish_as: adapter"
    given = config.beta is not None
    return [
        ("beta", given and config.method not in PREFERENCES, "goes with method dpo or kto"),
        ("alpha", full and config.alpha is not None, trains_none),
        ("rslora", full and config.rslora, trains_none),
        ("dropout", full and config.dropout > 0, trains_none),
        ("quantize", full and config.quantize is not None, trains_none),
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


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # comes with transformers; the light commands never get here

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(f"can't be read: {error.strerror}", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise InvalidData(f"not valid YAML: {reason}", where=where) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InvalidData("the file must be a list of `setting: value` lines", where=str(path))
    return {str(key): value for key, value in raw.items()}


def _problem(fault: Any) -> str:
    """One of pydantic's errors as `setting: what is wrong and what would be right`."""
    name = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "missing":
            return f"{name}: is missing"
        case "extra_forbidden":
            return f"{name}: there is no such setting{_nearest(name)}"
        case "value_error":
            text = str(fault["ctx"]["error"])
            return f"{name}: {text}" if name else text
    reason = fault["msg"].removeprefix("Input ")
    return f"{name}: {_shown(fault['input'])} {reason}"


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, TrainConfig.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
