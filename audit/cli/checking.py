"""Which verifier a path is for: a bundle, a redacted copy, a difference, a report alone.

Each is imported only where it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from audit.signing.attested import VerifyResult


@dataclass(frozen=True, slots=True)
class Asked:
    """What a verifier is given besides the path: certificates from elsewhere, its clock, what to make again.

    `suites` are needed to make an audit again, `parents` to make a difference again.
    """

    now: datetime
    trust: Path | None = None
    trust_tsa: Path | None = None
    recompute: bool = False
    suites: Sequence[str] = ()
    parents: Sequence[Path] = ()
    quiet: bool = True


def check_place(place: Path, asked: Asked) -> VerifyResult:
    """Return the outcome of every check of a bundle, a redacted copy, a difference or a report alone.

    Raises:
        click.UsageError: figures shall be computed again from a report alone, or parents are given for no difference.
        AffidavitError: there is nothing that could be checked, or a certificate cannot be read.
    """
    from audit.signing.bundle_files import DIFFERENCE, REDACTION
    from audit.signing.lone_report import is_lone_report, verify_report

    if os.path.lexists(place / DIFFERENCE):
        return _check_difference(place, asked)
    if asked.parents:
        raise click.UsageError("--parent is for a difference; this is none.")
    if is_lone_report(place):
        if asked.recompute:
            raise click.UsageError("--recompute needs the bundle: the evidence does not lie in the PDF.")
        return verify_report(place, trusted=asked.trust, trusted_tsa=asked.trust_tsa, now=asked.now)
    if os.path.lexists(place / REDACTION):
        # Its evidence is read, which takes DuckDB: a bundle is checked without.
        from audit.redaction import verify_redacted

        return verify_redacted(place, trusted=asked.trust, now=asked.now, render=asked.recompute)
    return _check_bundle(place, asked)


def _check_difference(place: Path, asked: Asked) -> VerifyResult:
    from audit.signing.verify import verify_difference

    result = verify_difference(place, trusted=asked.trust, trusted_tsa=asked.trust_tsa, now=asked.now)
    if not asked.recompute:
        return result
    from audit.cli.bar import progress
    from audit.differences.rechecking import recheck_difference

    listener = progress(quiet=asked.quiet)
    return recheck_difference(place, result, parents=asked.parents, now=asked.now, progress=listener)


def _check_bundle(bundle: Path, asked: Asked) -> VerifyResult:
    from audit.signing.verify import verify_bundle

    result = verify_bundle(bundle, trusted=asked.trust, trusted_tsa=asked.trust_tsa, now=asked.now)
    if not asked.recompute:
        return result
    from audit.cli.bar import progress
    from audit.recomputation.checks import recheck

    return recheck(bundle, result, suites=tuple(asked.suites), progress=progress(quiet=asked.quiet))
