"""The frozen, display-ready view that both renderers print. It holds text, never numbers."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Protocol

from markupsafe import Markup

# Names of SAEs and models have hyphens and points, and stay below this between two of them.
_LONGEST = 25
_LONG_WORD = re.compile(rf"[^\s-]{{{_LONGEST}}}")


class Printable(Protocol):
    """What both renderers take of any view; the rest is between the view and its templates."""

    @property
    def language(self) -> str:
        """Return the code of the language that the view is written in."""

    @property
    def author(self) -> str:
        """Return who made it, as the document's properties say."""


@dataclass(frozen=True, slots=True)
class Link:
    """A text that leads to a fragment of the report."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell.

    `detail` is a smaller second line, `sort` the plain value that a browser sorts by, `mark` a style name (a colour, a
    rung), `href` the fragment that the text links to, `links` what stands below. `code` says that the text is an
    identifier or a digest.
    """

    text: str
    detail: str = ""
    sort: str = ""
    mark: str = ""
    href: str = ""
    code: bool = False
    links: tuple[Link, ...] = ()

    @property
    def unbroken(self) -> bool:
        """Return whether a word is so long that it may be broken anywhere, lest it push its table over the margin."""
        return any(len(part) >= _LONGEST and _LONG_WORD.search(part) is not None for part in (self.text, self.detail))


@dataclass(frozen=True, slots=True)
class Column:
    """One table column; numeric columns are set flush right."""

    label: str
    numeric: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One table row; the first cell is its header. `head` runs above it over the full width, `note` below it.

    `finding` is the id of the finding that the row prints; HTML shows the command that computes it again.
    """

    cells: tuple[Cell, ...]
    head: str = ""
    note: str = ""
    group: str = ""
    finding: str = ""

    @property
    def command(self) -> str:
        """Return the command that computes the row's finding again from the evidence."""
        return f"affidavit sql BUNDLE --finding {shlex.quote(self.finding)}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its caption.

    `rows` holds everything and is what HTML shows; of a long table the first `shown` (0: all), and the others when they
    are asked for. `printed` is what fits on paper, and `cut` says what it leaves out (empty when nothing is left out).
    `query` names the queries that produced the figures, `record` the file that holds all rows.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    printed: tuple[Row, ...] = ()
    cut: str = ""
    note: str = ""
    query: str = ""
    empty: str = ""
    sortable: bool = False
    shown: int = 0
    layout: str = ""
    record: str = "findings.json"

    @property
    def first(self) -> tuple[Row, ...]:
        """Return the rows that HTML shows at once."""
        return self.rows[: self.shown] if self.shown else self.rows

    @property
    def rest(self) -> tuple[Row, ...]:
        """Return the rows that HTML shows when they are asked for."""
        return self.rows[self.shown :] if self.shown else ()


def whole(table: Table) -> Table:
    """Return the table with every row printed on paper too."""
    return replace(table, printed=table.rows)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its text alternative. `svg` is markup that this package made from numbers and escaped labels."""

    id: str
    svg: Markup
    title: str
    description: str
    caption: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A named line of text."""

    name: str
    text: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """A word that the report uses, explained without mathematics."""

    word: str
    meaning: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of a list to choose from: the stored word, and how it is printed."""

    value: str
    text: str


@dataclass(frozen=True, slots=True)
class Cover:
    """The first page: what was audited, when, with what, sealed by whom; and of a redacted copy that it is one."""

    title: str
    subtitle: str
    gist: tuple[str, ...]
    facts: tuple[Fact, ...]
    seal: tuple[Fact, ...]
    seal_note: str
    verdict: str
    verdict_note: str
    redacted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One concept on the summary page, in words."""

    concept: str
    href: str
    domain: str
    definition: str
    topic: Cell
    distinction: Cell
    outcome: Cell
    instrument: Cell


@dataclass(frozen=True, slots=True)
class Summary:
    """The page for a reader with ten minutes."""

    lead: str
    rows: tuple[SummaryRow, ...]
    note: str
    sentences: tuple[str, ...]
    charts: tuple[Chart, ...]
    chart_table: Table


@dataclass(frozen=True, slots=True)
class Guide:
    """How to read this report."""

    contrasts: tuple[Term, ...]
    ladder: tuple[Term, ...]
    readings: tuple[Term, ...]
    words: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Audited:
    """What was audited: the model, the instruments, the suites, and the positions left out."""

    model: Table
    saes: tuple[Table, ...]
    suites: Table
    format: str
    exclusions: Table


@dataclass(frozen=True, slots=True)
class FidelityPart:
    """How far one instrument can be trusted; `heading` is empty when there is no other."""

    id: str
    heading: str
    verdict: Cell
    chart: Chart
    table: Table


@dataclass(frozen=True, slots=True)
class FidelitySection:
    """How far the instruments can be trusted."""

    lead: str
    parts: tuple[FidelityPart, ...]
    rules: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class CertificateView:
    """What one instrument was measured to do on text that it was not trained on.

    `missing` says why there is nothing to show, and is empty otherwise. `facts` are the columns of the page's head.
    """

    id: str
    title: str
    lead: str
    missing: str
    warning: str
    facts: tuple[tuple[Fact, ...], ...]
    fidelity: Table
    chart: Chart | None
    curve: Table
    stability: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContrastBlock:
    """What one instrument shows of one contrast; `heading` and `sae` are empty when there is no other instrument."""

    id: str
    heading: str
    sae: str
    reading: Cell
    reason: str
    counts: str
    baselines: Table
    features: Table


@dataclass(frozen=True, slots=True)
class ContrastView:
    """One contrast of one concept."""

    id: str
    name: str
    question: str
    blocks: tuple[ContrastBlock, ...]


@dataclass(frozen=True, slots=True)
class InstrumentStatement:
    """How far one instrument can be trusted on one concept."""

    label: str
    colour: Cell
    reason: str


@dataclass(frozen=True, slots=True)
class ConceptView:
    """All that the report says about one concept.

    Of a long report `digest` and `standing` are what paper prints and what HTML shows at once; `closed` says there what
    opens on demand.
    """

    id: str
    title: str
    definition: str
    why: str
    rules: tuple[Fact, ...]
    flags: tuple[str, ...]
    instruments: tuple[InstrumentStatement, ...]
    digest: Table
    standing: Table
    contrasts: tuple[ContrastView, ...]
    charts: tuple[Chart, ...]
    chart_absent: str
    outcome: Table | None
    outcome_words: str
    closed: str


@dataclass(frozen=True, slots=True)
class DomainView:
    """The concepts of one domain."""

    id: str
    title: str
    concepts: tuple[ConceptView, ...]


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token of a context; `level` runs from 0 (silent) to 4 (as strong as this feature was seen)."""

    text: str
    level: str
    title: str

    @property
    def unbroken(self) -> bool:
        """Return whether the token is so long that a line may end before it, whatever stands there."""
        return _LONG_WORD.search(self.text) is not None


@dataclass(frozen=True, slots=True)
class ContextView:
    """One prompt with the feature's activation on each token."""

    heading: str
    strongest: str
    tokens: tuple[TokenView, ...]


@dataclass(frozen=True, slots=True)
class CardView:
    """One feature card."""

    id: str
    title: str
    facts: tuple[Fact, ...]
    printed_facts: tuple[Fact, ...]
    labels: tuple[Fact, ...]
    contexts: tuple[ContextView, ...]
    printed: tuple[ContextView, ...]
    cut: str


@dataclass(frozen=True, slots=True)
class Cards:
    """The feature cards, all of them and those that are printed on paper.

    HTML shows the first `shown` (0: all) at once; `closed` says what of the others opens on demand.
    """

    lead: str
    cards: tuple[CardView, ...]
    printed: tuple[CardView, ...]
    cut: str
    shown: int
    closed: str

    @property
    def first(self) -> tuple[CardView, ...]:
        """Return the cards that HTML shows at once."""
        return self.cards[: self.shown] if self.shown else self.cards

    @property
    def rest(self) -> tuple[CardView, ...]:
        """Return the cards that HTML shows when they are asked for."""
        return self.cards[self.shown :] if self.shown else ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A headed piece of a chapter: words, charts and tables, in this order. `missing` says why there is none."""

    id: str
    heading: str
    paragraphs: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter of passages, with the words that it uses; `missing` says why there is nothing to tell."""

    id: str
    heading: str
    lead: tuple[str, ...]
    terms: tuple[Term, ...]
    passages: tuple[Passage, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Controls:
    """The measured false positive rate and the control SAEs."""

    permutation: str
    permutation_mark: Cell
    permutation_facts: tuple[Fact, ...]
    totals: Table
    saes: Table


@dataclass(frozen=True, slots=True)
class Reproducibility:
    """What it takes to run the audit again; `untranslated` says what stands in English for lack of a translation."""

    untranslated: str
    command: str
    config: Table
    environment: Table
    digests: Table


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the verification."""

    title: str
    text: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """How a stranger checks the report: a heading, its explanation and the commands."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class ReportView:
    """Everything that is printed, in order.

    `policy` is None where none was put to the findings. `printed_lead` says what paper leaves out of the findings, and
    is empty where it leaves out nothing. Of a `folded` report HTML shows each concept's answers, and what was measured
    when it is asked for.
    """

    language: str
    page_size: str
    title: str
    description: str
    keywords: str
    generator: str
    author: str
    created: str
    running: str
    cover: Cover
    summary: Summary
    policy: Chapter | None
    guide: Guide
    audited: Audited
    fidelity: FidelitySection
    certificates: tuple[CertificateView, ...]
    domains: tuple[DomainView, ...]
    findings_lead: tuple[str, ...]
    printed_lead: str
    folded: bool
    ladder: Table
    rungs: tuple[Choice, ...]
    interactions: Chapter
    causal: Chapter
    cards: Cards
    controls: Controls
    not_tested: tuple[str, ...]
    limitations: tuple[Term, ...]
    frameworks: Chapter
    method: Chapter
    reproducibility: Reproducibility
    verification: Verification
