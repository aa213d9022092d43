"""Which concept changed more than the others did: an alarm about one, where training moved them all.

Any training moves a model everywhere, so that between two releases most concepts hold some row that changed. Whether
one of them was meant shows only beside the others. If effects on the concepts are draws from one normal distribution
around zero, the square of one over the mean square of the other K - 1 follows F(1, K - 1). A mean over several rows
scatters less than one square, so that the law is conservative for it. Holm's step-down over all ratios keeps the chance
of any false alarm in a comparison below the level (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from scipy.stats import f as variance_ratio

from audit.analysis.multiplicity import holm


@dataclass(frozen=True, slots=True)
class Outlying:
    """How a concept's change stands beside that of the others.

    Args:
        ratio: its root mean square effect over that of the others; infinite where no other moved at all.
        p: of the largest ratio among its kinds of rows, adjusted over concepts and kinds.
    """

    ratio: float
    p: float


def outlying(squares: Sequence[Sequence[float | None]]) -> tuple[Outlying | None, ...]:
    """Return how each concept stands beside the others; None where it or every other one has no rows.

    Args:
        squares: one sequence for each kind of rows, and in each the mean square effect of every concept, in squared
            standard deviations, sampling included; None where a concept has no such row.
    """
    asked: list[tuple[int, float, int]] = []
    for kind in squares:
        measured = [(place, value) for place, value in enumerate(kind) if value is not None]
        for place, value in measured:
            others = [other for elsewhere, other in measured if elsewhere != place]
            if not others:
                continue
            mean = sum(others) / len(others)
            ratio = value / mean if mean > 0 else inf if value > 0 else 0.0
            asked.append((place, ratio, len(others)))
    found: dict[int, Outlying] = {}
    p = variance_ratio.sf([ratio for _, ratio, _ in asked], 1, [others for *_, others in asked])
    for (place, ratio, _), adjusted in zip(asked, holm(p), strict=True):
        one = Outlying(sqrt(ratio), float(adjusted))
        if place not in found or (one.p, -one.ratio) < (found[place].p, -found[place].ratio):
            found[place] = one
    count = max((len(kind) for kind in squares), default=0)
    return tuple(found.get(place) for place in range(count))
