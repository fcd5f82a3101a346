"""How far apart two adapters' weight updates are, module by module, without forming an update.

An adapter changes a weight by dW = s B A, with A [r, inputs], B [outputs, r] and s its scale. dW is
as large as the base's weight, but all that is wanted of it are inner products, and

    <s1 B1 A1, s2 B2 A2> = s1 s2 tr(A1' B1' B2 A2)     by <X, Y> = tr(X' Y)
                         = s1 s2 tr((B1' B2) (A2 A1'))  as a trace allows turning
                         = s1 s2 sum((B1' B2) * (A1 A2'))  by tr(X Y) = sum(X * Y')

needs two matrices of r1 by r2 only. With it |dW|^2 = <dW, dW>, and for the difference

    |dW2 - dW1|^2 = |dW1|^2 + |dW2|^2 - 2 <dW1, dW2>

and the cosine is <dW1, dW2> / (|dW1| |dW2|). Ranks may differ. For an embedding B A is the update
transposed, on both sides, which changes none of these numbers.

All in float64. The difference of nearly equal updates is a difference of large squares, good to
about 1e-8 of their norm; equal factors are told apart beforehand, and give exactly 0.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hub.adapterfile import Adapter, Tensor, as_floats
from hub.facts import ModuleChange

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float64]]


def compare_updates(a: Adapter, b: Adapter) -> tuple[ModuleChange, ...]:
    """Each module that either adapts, the most changed one first.

    A module that one side leaves alone has norm 0 there, and no cosine.
    """
    modules = [*a.pairs, *(module for module in b.pairs if module not in a.pairs)]
    changes = [_compare(module, a, b) for module in modules]
    return tuple(sorted(changes, key=lambda change: (-change.norm_difference, change.module)))


def total_of(changes: Iterable[ModuleChange]) -> ModuleChange:
    """All modules as one long vector: squares and inner products add up."""
    a = b = difference = inner = 0.0
    for change in changes:
        a += change.norm_a**2
        b += change.norm_b**2
        difference += change.norm_difference**2
        inner += (change.cosine or 0.0) * change.norm_a * change.norm_b
    norm_a, norm_b = math.sqrt(a), math.sqrt(b)
    return ModuleChange(
        "total", norm_a, norm_b, math.sqrt(difference), _cosine(inner, norm_a, norm_b)
    )


def _compare(module: str, a: Adapter, b: Adapter) -> ModuleChange:
    left, right = a.pairs.get(module), b.pairs.get(module)
    if left and right and _same(left, right) and a.scale == b.scale:
        norm = _norm(left, a.scale)
        return ModuleChange(module, norm, norm, 0.0, 1.0 if norm else None)
    norm_a = _norm(left, a.scale) if left else 0.0
    norm_b = _norm(right, b.scale) if right else 0.0
    inner = _inner(left, right) * a.scale * b.scale if left and right else 0.0
    squared = norm_a**2 + norm_b**2 - 2 * inner
    return ModuleChange(
        module, norm_a, norm_b, math.sqrt(max(squared, 0.0)), _cosine(inner, norm_a, norm_b)
    )


def _norm(pair: tuple[Tensor, Tensor], scale: float) -> float:
    return math.sqrt(max(_inner(pair, pair), 0.0)) * abs(scale)


def _inner(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> float:
    """<B1 A1, B2 A2>, unscaled."""
    a1, b1 = (_matrix(tensor) for tensor in left)
    a2, b2 = (_matrix(tensor) for tensor in right)
    return float(((b1.T @ b2) * (a1 @ a2.T)).sum())


def _matrix(tensor: Tensor) -> "Matrix":
    return as_floats(tensor).astype("<f8").reshape(tensor.shape)


def _same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> bool:
    return all(
        (one.dtype, one.shape, one.data) == (other.dtype, other.shape, other.data)
        for one, other in zip(left, right, strict=True)
    )


def _cosine(inner: float, norm_a: float, norm_b: float) -> float | None:
    if not norm_a or not norm_b:
        return None
    return max(-1.0, min(1.0, inner / (norm_a * norm_b)))
