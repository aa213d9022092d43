"""Load again the suites that a bundle names, and refuse any others. Needs no model."""

from __future__ import annotations

from collections.abc import Sequence

from audit.errors import DigestMismatch, UsageError
from audit.records import SuiteRecord
from probes.loader import builtin_names, load_suites
from probes.schema import Suite


def recorded_suites(
    records: Sequence[SuiteRecord], sources: Sequence[str], *, given: Sequence[str] = (), whole: bool = False
) -> tuple[Suite, ...]:
    """Load the suites that ran, the same part of them.

    Args:
        records: what the bundle says of them.
        sources: what its configuration calls them.
        given: names every one that is needed; empty: the shipped ones that the bundle names.
        whole: all of each suite instead of the part that ran.

    Raises:
        UsageError: a suite is not shipped with the tool and was not named; a bundle alone does not hold its frames, and
            of a withheld suite not even its texts.
        DigestMismatch: a suite has changed since the audit.
    """
    own = [name for name in sources if name not in builtin_names()]
    if own and not given:
        raise UsageError(
            item=f"suite {', '.join(own)}",
            expected="its folder on this machine, by --suites: a bundle does not hold its suites, and of a withheld one"
            " not even the texts",
            found="only its name",
            hint="Give --suites FOLDER for each suite of the audit; shipped ones by name.",
        )
    recorded = {suite.id: suite for suite in records}
    subsets = {suite.subset for suite in records}
    subset = next(iter(subsets)) if len(subsets) == 1 and not whole else None
    suites = load_suites(tuple(given) or tuple(sources), subset=subset)
    for suite in suites:
        if suite.id not in recorded:
            raise UsageError(
                item=f"suite {suite.id!r}",
                expected=f"a suite of the audit: {', '.join(sorted(recorded))}",
                found="another one",
                hint="Name the suites that the audit ran.",
            )
        if suite.digest != recorded[suite.id].digest:
            raise DigestMismatch(
                item=f"suite {suite.id}",
                expected=recorded[suite.id].digest,
                found=suite.digest,
                hint="The suite has changed since this audit: use the version that it ran, or audit again.",
            )
    return suites
