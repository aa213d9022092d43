"""Which concept changed more than the others did: an alarm about one, where training moved them all.

Any training moves a model everywhere, so that between two releases most concepts hold some row that changed. Whether
one of them was meant shows only beside the others. If effects on the concepts are draws from one normal distribution
around zero, the square of one over the mean square of the other m follows F(1, m). A mean over several rows scatters
less than one square, so that the law is conservative for it. Of a loss, which training on anything shifts everywhere,
the distance from the others' mean is held against their spread: its square over their variance and 1 + 1/m follows
F(1, m - 1), the deleted residual of a common mean. Holm's step-down over all ratios keeps the chance of any false alarm
in a comparison below the level (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, variance

from scipy.stats import f as variance_ratio

from audit.analysis.multiplicity import holm
from audit.records import Respect


@dataclass(frozen=True, slots=True)
class Moved:
    """By how much each concept moved, in one respect.

    Args:
        respect: what moved.
        values: of each concept its mean square effect, sampling included; or, if `common`, its signed mean change. None
            where a concept has none.
        common: whether a shift of all concepts together is no news.
    """

    respect: Respect
    values: Sequence[float | None]
    common: bool = False


@dataclass(frozen=True, slots=True)
class Outlying:
    """How a concept's change stands beside that of the others, in one respect.

    Args:
        ratio: its root mean square effect over that of the others, or its distance from their mean over their spread;
            infinite where the others did not differ at all.
        p: of the ratio alone; adjusted: over concepts and respects.
        fall: the chance of lying so far below the others' mean; `p` where no sign is known.
    """

    respect: Respect
    ratio: float
    p: float
    adjusted: float
    fall: float


def outlying(moved: Sequence[Moved]) -> tuple[tuple[Outlying, ...], ...]:
    """Return how each concept stands beside the others, the respect in which it stands out most first.

    A respect is left out in which it or the others have nothing to compare.

    Args:
        moved: the same concepts in every respect, in the same order.
    """
    asked: list[tuple[int, Moved, float, int, bool]] = []
    for one in moved:
        measured = [(place, value) for place, value in enumerate(one.values) if value is not None]
        for place, value in measured:
            others = [other for elsewhere, other in measured if elsewhere != place]
            if len(others) <= one.common:
                continue
            own, scale = (value, mean(others)) if not one.common else _from_common(value, others)
            square = own / scale if scale > 0 else inf if own > 0 else 0.0
            asked.append((place, one, square, len(others) - one.common, value < mean(others)))
    found: list[list[Outlying]] = [[] for _ in range(max((len(one.values) for one in moved), default=0))]
    p = variance_ratio.sf([square for _, _, square, *_ in asked], 1, [freedom for *_, freedom, _ in asked])
    for (place, one, square, _, below), alone, adjusted in zip(asked, p.tolist(), holm(p).tolist(), strict=True):
        half = alone / 2 if below else 1 - alone / 2
        fall = half if one.common else alone
        found[place].append(Outlying(one.respect, sqrt(square), alone, adjusted, fall))
    return tuple(tuple(sorted(own, key=lambda one: (one.p, -one.ratio))) for own in found)


def _from_common(value: float, others: Sequence[float]) -> tuple[float, float]:
    return (value - mean(others)) ** 2, variance(others) * (1 + 1 / len(others))
