"""An estimate against a bound: the whole interval must keep it, and what cannot be told is unresolved."""

from __future__ import annotations

from math import inf, isfinite

from audit.policy.subjects import failed, passed, unresolved
from audit.records import Estimate, RulePoint


def magnitude_at_most(estimate: Estimate | None, bound: float, *, place: str, what: str) -> RulePoint:
    """Return whether the absolute value is at most the bound: pass if the 95% interval is, fail if none of it is."""
    return _within(estimate, -bound, bound, f"bound {bound:g} either way", place=place, what=what)


def estimate_at_most(estimate: Estimate | None, bound: float, *, place: str, what: str) -> RulePoint:
    """Return whether a value is at most the bound: pass if the 95% interval is, fail if none of it is."""
    return _within(estimate, -inf, bound, f"at most {bound:g}", place=place, what=what)


def _within(estimate: Estimate | None, least: float, most: float, allowed: str, *, place: str, what: str) -> RulePoint:
    if estimate is None or not isfinite(estimate.value):
        return unresolved(place, f"{what} was not measured")
    if estimate.low is None or estimate.high is None:
        said = f"{what} {estimate.value:.4g} has no interval, so that the bound {most:g} cannot be held against it"
        return unresolved(place, said, value=estimate.value, bound=most)
    low, high = estimate.low, estimate.high
    figures = {"value": estimate.value, "low": low, "high": high, "bound": most}
    said = f"{what} {estimate.value:.4g} (95% interval {low:.4g} to {high:.4g}), {allowed}"
    if least <= low and high <= most:
        return passed(place, said, **figures)
    if low > most or high < least:
        return failed(place, said, **figures)
    return unresolved(place, f"{said}: the interval crosses it", **figures)


def number_at_most(value: float | None, bound: float, *, place: str, what: str) -> RulePoint:
    """Return whether a number that has no interval is at most the bound."""
    if value is None or not isfinite(value):
        return unresolved(place, f"{what} was not measured")
    make = passed if value <= bound else failed
    return make(place, f"{what} {value:.4g}, at most {bound:g}", value=value, bound=bound)


def count_at_most(number: int, bound: int, *, place: str, what: str) -> RulePoint:
    """Return whether a count is at most the bound."""
    make = passed if number <= bound else failed
    return make(place, f"{number} {what}, at most {bound}", count=number, bound=bound)
