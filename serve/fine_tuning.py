"""What a client sends to OpenAI's fine-tuning API, checked field by field, as a `JobWanted`.

What OpenAI has and this hub has not (graders, reinforcement, integrations) is refused in words, by
field, never ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StrictInt, WithJsonSchema

from hub.errors import AdapterRejected, InvalidName, InvalidParameter, UnknownFile
from hub.jobs import MOST_SEED, JobWanted
from hub.names import namespace_of, parse_name
from hub.registry import Registry
from serve.resolver import Arm


def _auto(kind: type[int] | type[float], most: float, words: str) -> Any:
    """A number within (0, most], or 'auto'."""

    def check(value: Any) -> Any:
        if value != "auto" and not (type(value) in (int, kind) and 0 < value <= most):
            raise ValueError(f"must be 'auto' or {words}")
        return value

    return PlainValidator(check)


_SCHEMA = WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "exclusiveMinimum": 0}]})
Epochs = Annotated[Any, _auto(int, 1000, "a whole number from 1 to 1000"), _SCHEMA]
Rows = Annotated[Any, _auto(int, 4096, "a whole number from 1 to 4096"), _SCHEMA]
Multiplier = Annotated[Any, _auto(float, 1000, "a number above 0, 1000 at most"), _SCHEMA]
Beta = Annotated[Any, _auto(float, 10, "a number above 0, 10 at most"), _SCHEMA]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SupervisedHyperparametersIn(_In):
    """`learning_rate_multiplier` multiplies what the hub would take by itself."""

    n_epochs: Epochs = "auto"
    batch_size: Rows = "auto"
    learning_rate_multiplier: Multiplier = "auto"


class DpoHyperparametersIn(SupervisedHyperparametersIn):
    beta: Beta = "auto"


class SupervisedIn(_In):
    hyperparameters: SupervisedHyperparametersIn | None = None


class DpoIn(_In):
    hyperparameters: DpoHyperparametersIn | None = None


class MethodIn(_In):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedIn | None = None
    dpo: DpoIn | None = None
    reinforcement: Any = None


class JobIn(_In):
    """`model` is this server's base, or a version that stands on it: training goes on from that.
    `suffix` names the adapter that is published to."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    training_file: str
    validation_file: str | None = None
    method: MethodIn | None = None
    hyperparameters: SupervisedHyperparametersIn | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=MOST_SEED)] | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, Field(min_length=1, max_length=64)],
                Annotated[str, Field(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: Any = None


def wanted(
    given: JobIn, arm: Arm, registry: Registry, namespaces: frozenset[str] | None
) -> JobWanted:
    """What a job shall do; `arm` is what its `model` means.

    Raises:
        InvalidParameter: naming the field.
    """
    method, hyperparameters = _method(given)
    if given.integrations:
        raise InvalidParameter(
            "this hub has no integrations: nothing is sent elsewhere",
            param="integrations",
            hint="Leave it out; what is measured is in the events and the result file.",
        )
    for param in ("training_file", "validation_file"):
        _require_rows(registry, getattr(given, param), param)
    adapter, namespace = _adapter(given.suffix, arm, registry, namespaces)
    return JobWanted(
        model=given.model,
        base=arm.base,
        method=method,
        training_file=given.training_file,
        validation_file=given.validation_file,
        adapter=adapter,
        namespace=namespace,
        suffix=given.suffix,
        continue_from=str(arm.version) if arm.version else None,
        hyperparameters=hyperparameters,
        seed=given.seed,
        metadata=given.metadata,
    )


def _method(given: JobIn) -> tuple[Literal["supervised", "dpo"], dict[str, Any]]:
    if given.method is None:
        chosen = given.hyperparameters or SupervisedHyperparametersIn()
        return "supervised", chosen.model_dump()
    kind = given.method.type
    if kind == "reinforcement":
        raise InvalidParameter(
            "this hub has no graders, so it trains by no reinforcement",
            param="method.type",
            hint="Use 'supervised', or 'dpo' with pairs of answers.",
        )
    for other in ("supervised", "dpo", "reinforcement"):
        if other != kind and getattr(given.method, other) is not None:
            raise InvalidParameter(
                f"the method is '{kind}', and something is said of '{other}'",
                param=f"method.{other}",
            )
    if given.hyperparameters is not None:
        raise InvalidParameter(
            f"with a method its hyperparameters belong into method.{kind}",
            param="hyperparameters",
        )
    if kind == "dpo":
        pairs = given.method.dpo.hyperparameters if given.method.dpo else None
        return "dpo", (pairs or DpoHyperparametersIn()).model_dump()
    rows = given.method.supervised.hyperparameters if given.method.supervised else None
    return "supervised", (rows or SupervisedHyperparametersIn()).model_dump()


def _require_rows(registry: Registry, name: str | None, param: str) -> None:
    if name is None:
        return
    try:
        file = registry.files.get(name)
    except UnknownFile as error:
        raise InvalidParameter(error.message, param=param, hint=error.hint) from error
    if file.purpose != "fine-tune":
        raise InvalidParameter(
            f"{file.id} has the purpose '{file.purpose}', not 'fine-tune'", param=param
        )


def _adapter(
    suffix: str | None, arm: Arm, registry: Registry, namespaces: frozenset[str] | None
) -> tuple[str | None, str | None]:
    """The adapter to publish to, and the namespace of one that is still to be named."""
    if not suffix and arm.version is not None:
        return arm.version.adapter, None
    given = (suffix or "").lower()
    namespace = None if "/" in given else _namespace(namespaces)
    if not given:
        return None, namespace
    name = f"{namespace}/{given}" if namespace else given
    try:
        parse_name(name)
        if namespaces is not None and namespace_of(name) not in namespaces:
            raise InvalidName(f"'{name}' can't be published to", hint=_allowed(namespaces))
        registry.versions.require_base(name, arm.base)
    except (InvalidName, AdapterRejected) as error:
        raise InvalidParameter(error.message, param="suffix", hint=error.hint) from error
    return name, None


def _namespace(namespaces: frozenset[str] | None) -> str | None:
    """Where the adapters of a key lie that names no namespace."""
    if namespaces is None:
        return None
    if len(namespaces) > 1:
        raise InvalidParameter(
            "it is not clear in which namespace the result belongs",
            param="suffix",
            hint=f"{_allowed(namespaces)} Write the suffix with one: {min(namespaces)}/name.",
        )
    return min(namespaces)


def _allowed(namespaces: frozenset[str]) -> str:
    return f"This API key is for {', '.join(f'{n}/…' for n in sorted(namespaces))} only."
