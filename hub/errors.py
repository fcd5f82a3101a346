"""Every error that Loom raises on purpose.

    HubError
    ├── UsageError               the command or request itself is malformed
    │   ├── BodyTooLarge         more was sent than the server takes
    │   ├── InvalidParameter     one field of a request; carries its name
    │   ├── InvalidName          an adapter, alias or namespace name breaks the grammar
    │   └── InvalidReference     a reference cannot be parsed
    ├── NotFound                 something named does not exist
    │   ├── NoHome               the folder is not a hub's home
    │   ├── UnknownReference     adapter, version, alias or digest
    │   ├── UnknownBase
    │   ├── EndpointNotServed    the engine has no such call for its kind of model
    │   ├── UnknownFile          one that was uploaded to be trained on
    │   ├── UnknownJob           a fine-tuning job
    │   ├── UnknownRun
    │   └── UnknownInteraction   also comparisons
    ├── Conflict                 the world is not as the caller thought
    │   ├── AliasMoved           a compare-and-swap lost
    │   └── FilesMissing         a publish names files that were not uploaded
    ├── HubUnreachable           an address gives no answer, or none that a hub would give
    ├── InvalidData              a data file or a row of it is unusable
    ├── InvalidConfig            one or more settings are unusable, all reported together
    ├── AdapterRejected          a version failed a check at publish
    ├── IntegrityError           stored bytes do not match their hash
    │   └── BadSignature         a signature does not fit what it is said to be of
    ├── StoreUnavailable         the folder or bucket of blobs refuses or can't be reached
    ├── NotSigned                only versions signed by trusted keys are wanted, and it is not
    ├── TransferError            an adapter could not be had from, or sent to, another place
    ├── GateRefused              the evaluation says FAIL (exit 3) or INSUFFICIENT (exit 4)
    ├── MissingExtra             the command needs an extra that is not installed
    ├── BaseError                a base model could not be built, read or identified
    ├── MergeError               base and adapter could not be made into one model
    ├── TrainingError            a run could not be carried through
    ├── RunStopped               somebody wanted that a run ends; it can be resumed
    ├── InvalidApiKey            a server wants an API key, and got none that is valid
    ├── InsufficientScope        the API key is valid, and not for this
    ├── Overloaded               more is asked than may wait; carries when to ask again
    │   └── RateLimited          more than the API key's rate allows
    ├── DeadlineExceeded         no answer began in the time that a request has
    ├── EngineError              the engine misbehaved
    │   ├── EngineStartFailed    it did not come up; carries its last log lines
    │   │   └── EngineSilent     nobody answers where it should be; it may come up yet
    │   ├── EngineUnavailable    it is down or restarting; try again
    │   └── EngineRefused        it answered a load or a request with an error
    └── AddressRefused           the gateway may not listen there (in use, or not safe)

The core raises; exactly one place per program turns an error into words: `hub.cli.main` for the
command line, `serve.failures` for HTTP. No other module prints an error or maps it to a status.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal


class HubError(Exception):
    """What was wrong (`message`), where (`where`: file, row, field) and what to do (`hint`).

    `exit_code` is the command line's exit status, `status` the HTTP status, `kind`, `code` and
    `param` the `type`, `code` and `param` of OpenAI's error object.
    """

    exit_code: int = 1
    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    param: str | None = None

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def to_openai(self) -> dict[str, Any]:
        """The body `{"error": {...}}` that OpenAI's clients understand.

        `detail` is beyond what OpenAI has: the error's parts, from which `hub.remote` makes the
        same error again on the other machine.
        """
        message = f"{self}. {self.hint}" if self.hint else str(self)
        detail = {name: part for name, part in vars(self).items() if not name.startswith("_")}
        return {
            "error": {
                "message": message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
                "detail": detail,
            }
        }


class UsageError(HubError):
    exit_code = 2
    status = 400
    kind = "invalid_request_error"
    code = "invalid_request"


class BodyTooLarge(UsageError):
    status = 413
    code = "body_too_large"


class InvalidParameter(UsageError):
    """`param` is the field's name as the client wrote it."""

    code = "invalid_value"

    def __init__(
        self, message: str, *, param: str, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.param = param


class InvalidName(UsageError):
    code = "invalid_name"


class InvalidReference(UsageError):
    code = "invalid_reference"


class NotFound(HubError):
    status = 404
    kind = "invalid_request_error"
    code = "not_found"


class NoHome(NotFound):
    code = "no_home"


class UnknownReference(NotFound):
    """The `model` of a request, or the reference of a command, names nothing published."""

    code = "model_not_found"


class UnknownBase(NotFound):
    code = "base_not_found"


class EndpointNotServed(NotFound):
    code = "endpoint_not_served"


class UnknownFile(NotFound):
    code = "file_not_found"
    param = "id"


class UnknownJob(NotFound):
    code = "fine_tune_not_found"
    param = "fine_tuning_job_id"


class UnknownRun(NotFound):
    code = "run_not_found"


class UnknownInteraction(NotFound):
    code = "interaction_not_found"


class Conflict(HubError):
    status = 409
    kind = "invalid_request_error"
    code = "conflict"


class AliasMoved(Conflict):
    """A compare-and-swap found another version than expected; `current` is what it is now."""

    code = "alias_moved"

    def __init__(self, message: str, *, current: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.current = current


class FilesMissing(Conflict):
    """`missing` are the sha256 of the files; upload them and publish again."""

    code = "files_missing"

    def __init__(self, message: str, *, missing: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)


class HubUnreachable(HubError):
    status = 502
    code = "hub_unreachable"


class InvalidData(HubError):
    status = 400
    kind = "invalid_request_error"
    code = "invalid_data"


class InvalidConfig(HubError):
    """Carries every problem found, so that one round of mending is enough."""

    exit_code = 2
    status = 400
    kind = "invalid_request_error"
    code = "invalid_config"

    def __init__(self, problems: Sequence[str], *, where: str | None = None) -> None:
        count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        listed = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{count} unusable:{listed}", where=where)
        self.problems = tuple(problems)


class AdapterRejected(HubError):
    """`check` is the stable name of the check that refused, as `hub verify` lists it."""

    status = 400
    kind = "invalid_request_error"
    code = "adapter_rejected"

    def __init__(
        self, message: str, *, check: str, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.check = check


class IntegrityError(HubError):
    code = "integrity_error"


class BadSignature(IntegrityError):
    status = 400
    kind = "invalid_request_error"
    code = "bad_signature"


class NotSigned(HubError):
    """It exists, and this gateway or check wants a signature that it does not have."""

    status = 403
    kind = "invalid_request_error"
    code = "not_signed"


class StoreUnavailable(HubError):
    status = 503
    code = "store_unavailable"


class TransferError(HubError):
    status = 502
    code = "transfer_failed"


class GateRefused(HubError):
    """The gate's verdict is not PASS; the exit code tells FAIL (3) from INSUFFICIENT (4)."""

    status = 409
    kind = "invalid_request_error"
    code = "gate_refused"

    def __init__(self, message: str, *, verdict: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict
        self.exit_code = 3 if verdict == "FAIL" else 4


class MissingExtra(HubError):
    code = "missing_extra"


class BaseError(HubError):
    status = 400
    code = "base_error"


class MergeError(HubError):
    code = "merge_failed"


class TrainingError(HubError):
    code = "training_failed"


class RunStopped(HubError):
    exit_code = 130  # as after Ctrl-C
    status = 409
    code = "run_stopped"

    def __init__(self, message: str, *, run: str, wanted: str, step: int | None = None) -> None:
        super().__init__(message, hint=f"`hub runs resume {run}` goes on with it.")
        self.run, self.wanted, self.step = run, wanted, step

    @classmethod
    def when(cls, wanted: str, run: str, *, step: int | None = None) -> "RunStopped":
        """The run ends because somebody wanted it, after a step if it had come to one."""
        at = f" after step {step}" if step is not None else ""
        what = "paused" if wanted == "pause" else "cancelled"
        return cls(f"the run {run} was {what}{at}", run=run, wanted=wanted, step=step)

    @property
    def stopped(self) -> Literal["cancelled", "paused"]:
        """What the run is now."""
        return "paused" if self.wanted == "pause" else "cancelled"


class Overloaded(HubError):
    status = 429
    kind = "rate_limit_error"
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or f"Ask again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    code = "rate_limit_exceeded"


class InvalidApiKey(HubError):
    """One for every cause (none, unknown, wrong, revoked, expired): which it was is nobody's
    business who has no valid key."""

    status = 401
    kind = "invalid_request_error"
    code = "invalid_api_key"


class InsufficientScope(HubError):
    """Said before anything is looked up: it tells nothing of what there is."""

    status = 403
    kind = "invalid_request_error"
    code = "insufficient_scope"


class DeadlineExceeded(HubError):
    status = 504
    code = "deadline_exceeded"


class EngineError(HubError):
    status = 502
    code = "engine_error"


class EngineStartFailed(EngineError):
    code = "engine_start_failed"

    def __init__(self, message: str, *, log_tail: str, hint: str | None = None) -> None:
        shown = f"{message}; its last log lines:\n{log_tail}" if log_tail else message
        super().__init__(shown, hint=hint)
        self.log_tail = log_tail


class EngineSilent(EngineStartFailed):
    code = "engine_silent"


class EngineUnavailable(EngineError):
    status = 503
    code = "engine_unavailable"


class EngineRefused(EngineError):
    code = "engine_refused"


class AddressRefused(HubError):
    status = 400
    code = "address_refused"
