"""The grammar of names and references: text in, frozen records out, and back to the same text.

    reference   = "base" | "auto" | composition | versioned
    composition = term ("+" term)+ | term with "*" weight
    term        = versioned ["*" weight]
    versioned   = name ["@" (number | alias | "sha256:" 12-64 hex | "job:" job)] | fine-tuned
    fine-tuned  = "ft:" base's name ":" ("Loom" | namespace) ":" [part] ":" job
                  [":ckpt-step-" number]
    job         = 8 lower-case letters and digits
    name        = [namespace "/"] part
    part        = lower-case letters, digits, ".", "_", "-"; 64 at most, first a letter or digit
    alias       = lower-case letters, digits, "_", "-"; 32 at most, first a letter

Nothing here looks anything up: whether a name exists is the registry's business. Names become
folder names and engine names, so the grammar is what keeps `..`, spaces, `#` and upper-case twins
out of both.

`ft:…` is how OpenAI's API calls what a fine-tuning job made. It means `name@job:…`, the version
that this job was published as; the name is put together from the namespace and the part, which is
`ft-JOB` where it is left out.
"""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from hub.errors import InvalidName, InvalidReference

BASE = "base"
AUTO = "auto"
PRODUCTION = "production"
RESERVED_NAMES = frozenset({BASE, AUTO})
MAX_REFERENCE_LENGTH = 512
# What stands in an `ft:` name for a namespace where there is none: no namespace is spelled so.
ORGANIZATION = "Loom"

_PART = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_JOB = re.compile(r"[a-z0-9]{8}")
_FINE_TUNED = re.compile(
    r"ft:([^:]+):([^:/]+):([^:/]*):([a-z0-9]{8})(?::ckpt-step-([1-9][0-9]{0,8}))?"
)
_BASE_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_WEIGHT = re.compile(r"-?(?:[0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})")


@dataclass(frozen=True)
class BaseRef:
    """The base model, with no adapter."""

    def __str__(self) -> str:
        return BASE


@dataclass(frozen=True)
class AutoRef:
    """Let the hub choose."""

    def __str__(self) -> str:
        return AUTO


@dataclass(frozen=True)
class Number:
    value: int

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Alias:
    value: str

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Digest:
    """12 to 64 hex digits of a version's digest."""

    value: str

    def __str__(self) -> str:
        return f"sha256:{self.value}"


@dataclass(frozen=True)
class OfJob:
    """The version that a fine-tuning job was published as.

    `base` is the base's name where it was written as `ft:…`, and `step` the checkpoint then asked
    for, None for the one that was published.
    """

    value: str
    base: str = ""
    step: int | None = None

    def __str__(self) -> str:
        return f"job:{self.value}"


Selector = Number | Alias | Digest | OfJob


@dataclass(frozen=True)
class AdapterRef:
    """One version of one adapter; no selector means its `production` alias."""

    name: str
    selector: Selector | None = None

    def __str__(self) -> str:
        if isinstance(self.selector, OfJob) and self.selector.base:
            return fine_tuned_name(self.name, self.selector)
        return self.name if self.selector is None else f"{self.name}@{self.selector}"


@dataclass(frozen=True)
class Term:
    adapter: AdapterRef
    weight: Decimal

    def __str__(self) -> str:
        return f"{self.adapter}*{self.weight:f}"


@dataclass(frozen=True)
class CompositionRef:
    """Several versions with weights, in the order they were written."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "+".join(str(term) for term in self.terms)


Reference = BaseRef | AutoRef | AdapterRef | CompositionRef


def parse_name(text: str) -> str:
    """`text` itself if it can name an adapter.

    Raises:
        InvalidName: with the rule that it breaks.
    """
    parts = text.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidName(
            f"{_shown(text)} can't name an adapter",
            hint="Use lower-case letters, digits, '.', '_' and '-', at most 64, "
            "optionally after a namespace: support, acme/support.",
        )
    if text in RESERVED_NAMES:
        raise InvalidName(f"'{text}' is reserved", hint="Choose another name for the adapter.")
    return text


def parse_namespace(text: str) -> str:
    """`text` itself if it can be what stands before the slash of a name.

    Raises:
        InvalidName: with the rule that it breaks.
    """
    if not _PART.fullmatch(text):
        raise InvalidName(
            f"{_shown(text)} can't name a namespace",
            hint="Use lower-case letters, digits, '.', '_' and '-', at most 64: the acme of"
            " acme/support.",
        )
    return text


def namespace_of(name: str) -> str | None:
    """`acme` of `acme/support`; None of a name without one."""
    namespace, slash, _ = name.partition("/")
    return namespace if slash else None


def unnamed(job: str) -> str:
    """What a fine-tuning job's adapter is called where nobody gave it a name."""
    return f"ft-{job}"


def fine_tuned_name(name: str, job: OfJob) -> str:
    """`ft:<base>:<org>:<suffix>:<job>`, of an adapter's name and a job that knows its base."""
    part = name.rpartition("/")[2]
    suffix = "" if part == unnamed(job.value) else part
    whole = f"ft:{job.base}:{namespace_of(name) or ORGANIZATION}:{suffix}:{job.value}"
    return whole if job.step is None else f"{whole}:ckpt-step-{job.step}"


def parse_alias(text: str) -> str:
    """`text` itself if it can name an alias.

    Raises:
        InvalidName: with the rule that it breaks.
    """
    if not _ALIAS.fullmatch(text) or text == "sha256":
        raise InvalidName(
            f"{_shown(text)} can't name an alias",
            hint="Use lower-case letters, digits, '_' and '-', at most 32, starting with a letter.",
        )
    return text


def parse_reference(text: str) -> Reference:
    """Read a reference as it stands in `model=`, on the command line or in the API.

    Raises:
        InvalidReference: when it is not in the grammar, naming the part that is not.
    """
    if not text or len(text) > MAX_REFERENCE_LENGTH:
        raise InvalidReference(
            "an empty reference" if not text else f"a reference of {len(text)} characters",
            hint=f"Write 1 to {MAX_REFERENCE_LENGTH} characters, like support or support@3.",
        )
    if text == BASE:
        return BaseRef()
    if text == AUTO:
        return AutoRef()
    if "+" not in text and "*" not in text:
        return _parse_adapter(text, text)
    composition = CompositionRef(tuple(_parse_term(term, text) for term in text.split("+")))
    if len(written := str(composition)) > MAX_REFERENCE_LENGTH:
        # Printed, it must be a reference again, and every weight is written out there.
        raise InvalidReference(
            f"a composition of {len(written)} characters when its weights are written out",
            hint=f"Write {MAX_REFERENCE_LENGTH} at most.",
        )
    return composition


def parse_adapter_reference(text: str) -> AdapterRef:
    """Like `parse_reference`, where only one adapter version makes sense.

    Raises:
        InvalidReference: also for `base`, `auto` and compositions.
    """
    reference = parse_reference(text)
    if not isinstance(reference, AdapterRef):
        raise InvalidReference(
            f"{_shown(text)} is not one adapter's version", hint="Name one, like support@3."
        )
    return reference


def parse_base_name(text: str) -> str:
    """`text` itself if it can name a base: as models are named on the Hugging Face Hub.

    Raises:
        InvalidName: with the rule that it breaks.
    """
    if not _BASE_NAME.fullmatch(text) or text in RESERVED_NAMES:
        raise InvalidName(
            f"{_shown(text)} can't name a base",
            hint="Use letters, digits, '.', '_' and '-', at most 96, optionally after an owner: "
            "Qwen/Qwen3-0.6B.",
        )
    return text


def engine_name(name: str, number: int, digest: str) -> str:
    """The name that an engine knows a version by: never the same for different weights."""
    return f"{name}@{number}#{digest[:12]}"


def _parse_term(text: str, whole: str) -> Term:
    versioned, star, weight = text.partition("*")
    if not star:
        return Term(_parse_adapter(versioned, whole), Decimal(1))
    if not _WEIGHT.fullmatch(weight):
        raise InvalidReference(
            f"{_shown(weight)} is not a weight in {_shown(whole)}",
            hint="Write weights as decimals: support@3*0.7+formal@2*0.3.",
        )
    try:
        return Term(_parse_adapter(versioned, whole), _canonical(Decimal(weight)))
    except InvalidOperation as error:  # pragma: no cover - the pattern admits only decimals
        raise InvalidReference(f"{_shown(weight)} is not a weight") from error


def _canonical(weight: Decimal) -> Decimal:
    """0.70 and 0.7 are one weight, and 1E+1 is written 10; there is no negative zero."""
    return Decimal(f"{weight.normalize():f}") if weight else Decimal(0)


def _parse_adapter(text: str, whole: str) -> AdapterRef:
    name, at, selector = text.partition("@")
    try:
        if text.startswith("ft:"):
            return _parse_fine_tuned(text)
        parse_name(name)
        return AdapterRef(name, _parse_selector(selector) if at else None)
    except InvalidName as error:
        inside = "" if text == whole else f" in {_shown(whole)}"
        raise InvalidReference(
            f"{error.message}{inside}",
            hint="A reference is base, a name, or name@3, name@alias, name@sha256:<12+ hex>,"
            " or ft:… as a fine-tuning job says it.",
        ) from error


def _parse_fine_tuned(text: str) -> AdapterRef:
    """Raises InvalidName."""
    found = _FINE_TUNED.fullmatch(text)
    if found is None:
        raise InvalidName(f"{_shown(text)} is not the name of a fine-tuned model")
    base, organization, suffix, job, step = found.groups()
    part = suffix or unnamed(job)
    name = part if organization == ORGANIZATION else f"{organization}/{part}"
    return AdapterRef(
        parse_name(name), OfJob(job, parse_base_name(base), int(step) if step else None)
    )


def _parse_selector(text: str) -> Selector:
    if _NUMBER.fullmatch(text):
        return Number(int(text))
    scheme, colon, digits = text.partition(":")
    if scheme == "job" and _JOB.fullmatch(digits):
        return OfJob(digits)
    if colon:
        if scheme != "sha256" or not _DIGEST.fullmatch(digits):
            raise InvalidName(f"{_shown(text)} is not a digest (sha256: and 12 to 64 hex digits)")
        return Digest(digits)
    return Alias(parse_alias(text))


def _shown(text: str) -> str:
    """Quoted, with control characters escaped, and short: hostile names end up in terminals."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return ascii(shown) if not shown.isprintable() else f"'{shown}'"
