"""Renders the difference between two audits, as one HTML file and as a tagged PDF, from its record alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from audit.config import PageSize
from audit.records import DifferenceResult, DiffParent, DiffRun
from reports.difference_answer import answer_view, gist
from reports.difference_checks import checks_chapter
from reports.difference_contexts import contexts_view
from reports.difference_figures import figures_chapter
from reports.difference_method import guide_chapter, limitations_chapter, margins_chapter, method_chapter
from reports.difference_proof import reproducibility_chapter, verification_view
from reports.difference_rows import rows_chapter
from reports.difference_view import DifferenceView
from reports.difference_words import REASON_MOST, names_of_difference, shortened
from reports.html import render_html
from reports.language import _, speaking, spoken
from reports.numbers import short_digest, visible
from reports.pdf import render_pdf
from reports.rendering import DIFFERENCE


def render_difference_html(result: DifferenceResult, run: DiffRun, *, difference_json: bytes) -> bytes:
    """Return the report as one UTF-8 file that needs no network and embeds diff.json. Equal arguments give equal bytes.

    Args:
        result: what to print.
        run: the circumstances.
        difference_json: the bytes of diff.json, embedded packed where every report of this tool has its record.

    Raises:
        UsageError: the run chose a language that is not there.
    """
    return render_html(build_difference_view(result, run), findings_json=difference_json, layout=DIFFERENCE)


def render_difference_pdf(
    result: DifferenceResult, run: DiffRun, *, attachments: Mapping[str, bytes], created_at: datetime
) -> bytes:
    """Return the report, built to PDF/A-3a and PDF/UA-1. Equal arguments give equal bytes.

    Args:
        result: what to print.
        run: the circumstances.
        attachments: file name -> bytes; `diff.json` is its data, `manifest.json` a supplement.
        created_at: the moment written into the file.

    Raises:
        EnvironmentProblem: a library is missing.
        AffidavitError: `created_at` has no time zone.
        UsageError: the run chose a language that is not there.
    """
    view = build_difference_view(result, run)
    return render_pdf(view, attachments=attachments, created_at=created_at, layout=DIFFERENCE)


def build_difference_view(result: DifferenceResult, run: DiffRun) -> DifferenceView:
    """Return all that the report prints, in the words and places in which it prints it.

    Raises:
        UsageError: the run chose a language that is not there.
    """
    with speaking(run.language):
        names = names_of_difference(result)
        heading = _("What changed between two model versions")
        return DifferenceView(
            language=spoken().code,
            page_size=run.page_size if run.page_size in list(PageSize) else PageSize.A4,
            title=_(
                "{heading}: {base} and {new}",
                heading=heading,
                base=shortened(result.base.model),
                new=shortened(result.new.model),
            ),
            heading=heading,
            subtitle=_("{base} is the base, {new} the new version", base=_model(result.base), new=_model(result.new)),
            description=gist(result.concepts),
            keywords=_("language model audit, difference between versions, equivalence, evidence report"),
            generator=f"affidavit {visible(run.tool_version)}",
            author=shortened(run.seal.organisation) or _("not named"),
            created=run.created_at,
            running=_("difference {digest}", digest=short_digest(visible(run.difference_digest))),
            answer=answer_view(result, run, names),
            chapters=(
                guide_chapter(),
                checks_chapter(result, names),
                figures_chapter(result, names),
                rows_chapter(result, names),
            ),
            contexts=contexts_view(result, names),
            not_measured=tuple(shortened(item, REASON_MOST) for item in result.not_measured),
            closing=(
                limitations_chapter(),
                margins_chapter(result.margins),
                method_chapter(result),
                reproducibility_chapter(result, run),
            ),
            verification=verification_view(result, run),
        )


def _model(parent: DiffParent) -> str:
    return _(
        "{model} ({dtype})",
        model=shortened(parent.model),
        dtype=shortened(parent.dtype),
    )
