"""Keeping an evaluation with the version that it is of: what the gate goes by at a promotion."""

from hub.errors import InvalidData
from hub.evaluation.gate import EXIT_CODES
from hub.facts import Evaluated
from hub.ledger import Ledger
from hub.records import Evaluation, Version


def record_evaluation(ledger: Ledger, version: Version, given: Evaluated) -> Evaluation:
    """Raises InvalidData for a verdict that the gate does not know, or one without its reason."""
    if given.verdict not in EXIT_CODES:
        raise InvalidData(
            f"the gate has no verdict '{given.verdict}'", hint=f"It says {', '.join(EXIT_CODES)}."
        )
    for part in ("summary", "reason"):
        if not isinstance(given.result.get(part), str):
            raise InvalidData(f"the result of an evaluation has its {part}, as text")
    dataset = ledger.add_dataset(
        digest=given.dataset_digest,
        name=given.dataset,
        source=given.source,
        format=given.format,
        rows=given.rows,
        lint={},
    )
    return ledger.add_evaluation(
        version,
        against=given.against,
        dataset=dataset,
        metric=given.metric,
        verdict=given.verdict,
        result=given.result,
    )
