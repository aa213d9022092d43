"""What a suite could have found: the smallest effect that both steps of the tests let through at a given power.

Scores are taken as normal, so each step's t has a noncentral t distribution with d_z sqrt(n) as its noncentrality
(Cohen 1988, chapter 2). The exact sign-flip test has nearly the power of the t test it resembles; the calibration
benchmark measures both steps themselves.
"""

from __future__ import annotations

from functools import cache
from math import sqrt

from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

TARGET_POWER = 0.8
_LARGEST = 5.0


def detectable_effect(
    *, n_discovery: int, n_confirmation: int, p_discovery: float, p_confirmation: float, bar: float = 0.0
) -> float | None:
    """Return the smallest d_z found with 80% power, or None where no effect is: too few scenarios for the limits.

    Args:
        n_discovery: scenarios of the first step.
        n_confirmation: scenarios of the second.
        p_discovery: the two-sided p that the first step asks for.
        p_confirmation: the two-sided p that the second step asks for, in the same direction.
        bar: a d_z that the second step's own effect must exceed besides.
    """
    # With every sign alike n scenarios give 2^(1 - n), the smallest p of a sign-flip test.
    if 2.0 ** (1 - n_discovery) > p_discovery or 2.0 ** (1 - n_confirmation) > p_confirmation:
        return None
    first = float(student.isf(p_discovery / 2, n_discovery - 1))
    second = max(float(student.isf(p_confirmation / 2, n_confirmation - 1)), bar * sqrt(n_confirmation))

    def lacking(effect: float) -> float:
        chosen = float(nct.sf(first, n_discovery - 1, effect * sqrt(n_discovery)))
        confirmed = float(nct.sf(second, n_confirmation - 1, effect * sqrt(n_confirmation)))
        return chosen * confirmed - TARGET_POWER

    if lacking(_LARGEST) < 0:
        return None
    return float(brentq(lacking, 0.0, _LARGEST, xtol=1e-4))


@cache
def detectable_shift(scenarios: int, p_limit: float) -> float | None:
    """Return the smallest d_z that one two-sided test finds with 80% power, or None where no effect is.

    Args:
        scenarios: how many are tested.
        p_limit: the p that the test asks for.
    """
    if scenarios < 2 or 2.0 ** (1 - scenarios) > p_limit:
        return None
    least = float(student.isf(p_limit / 2, scenarios - 1))

    def lacking(effect: float) -> float:
        return float(nct.sf(least, scenarios - 1, effect * sqrt(scenarios))) - TARGET_POWER

    return float(brentq(lacking, 0.0, _LARGEST, xtol=1e-4)) if lacking(_LARGEST) >= 0 else None
