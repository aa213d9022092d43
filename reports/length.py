"""How much of a report is printed: one of many concepts would take hundreds of pages, which nobody reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audit.records import ConceptResult
from reports.features import ELSEWHERE
from reports.language import _
from reports.numbers import count
from reports.view import Table, whole

# Concepts times questions times instruments: up to here every one of them is printed in full. A dozen took 64 pages.
DETAILED_BLOCKS = 11
# The same for the page: up to here it shows everything at once.
UNFOLDED_BLOCKS = 24
# Mixes in which paper shows more than the first of what was found or tested.
DETAILED_MIXES = 6
# Rows that HTML shows of a table about everything at once; the others open on demand.
SHOWN_ROWS = 20


def is_long(concepts: Sequence[ConceptResult]) -> bool:
    """Return whether paper holds the answers only, and HTML every table."""
    return sum(len(concept.contrasts) for concept in concepts) > DETAILED_BLOCKS


def is_folded(concepts: Sequence[ConceptResult]) -> bool:
    """Return whether HTML shows each concept's answers, and what was measured when it is asked for."""
    return sum(len(concept.contrasts) for concept in concepts) > UNFOLDED_BLOCKS


def of_each(mixes: int, *, usual: int) -> int:
    """Return how many rows of each mix are printed."""
    return usual if mixes <= DETAILED_MIXES else 1


def short_enough(table: Table, concepts: Sequence[ConceptResult], *, otherwise: str) -> Table:
    """Return a table with a row for every concept and more, whole; of a long report paper holds a line instead."""
    return replace(table, cut=otherwise) if is_long(concepts) else whole(table)


def printed_lead(concepts: Sequence[ConceptResult]) -> str:
    """Return what paper leaves out of the findings; nothing where every concept is printed in full."""
    if not is_long(concepts):
        return ""
    return _(
        "On paper each of the {number} concepts has one table of answers and one of the features that"
        " stand. Every baseline, control, set of features and unconfirmed feature, with its reason, is in"
        " {elsewhere}.",
        number=count(len(concepts)),
        elsewhere=_(ELSEWHERE),
    )
