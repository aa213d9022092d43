"""What commands print about suites, as lines and as plain data."""

from __future__ import annotations

from collections.abc import Iterator

from audit.digests import Json
from audit.records import as_json
from probes.lint import TARGET_ACCURACY, LintReport
from probes.schema import Concept, Mix, Suite


def suite_summary(suite: Suite) -> Json:
    """Return a suite's parts with their counts."""
    return {
        "id": suite.id,
        "title": suite.title,
        "domain": suite.domain,
        "version": suite.version,
        "digest": suite.digest,
        "concepts": [{"id": c.id, "title": c.title, "scenarios": len(c.scenarios)} for c in suite.concepts],
        "mixes": [
            {"id": m.id, "title": m.title, "concepts": list(m.concepts), "scenarios": len(m.scenarios)}
            for m in suite.mixes
        ],
        "subsets": tuple(sorted(suite.subsets)),
    }


def suite_content(suite: Suite, *, only: str | None) -> Json:
    """Return concepts and mixes with every scenario; `only` names the one that is wanted."""
    return {
        "id": suite.id,
        "concepts": [as_json(concept) for concept in suite.concepts if only in (None, concept.id)],
        "mixes": [as_json(mix) for mix in suite.mixes if only in (None, mix.id)],
    }


def describe(part: Concept | Mix, *, scenarios: bool) -> Iterator[str]:
    """Yield the lines that show a concept or a mix."""
    yield f"{part.title} ({part.id})"
    if isinstance(part, Concept):
        yield part.definition
        yield from (f"  {rule.name}: {rule.clause}" for rule in part.rules)
    else:
        yield f"  concepts: {' and '.join(part.concepts)}; placebo: {part.placebo.title}"
    yield f"  why: {part.why}"
    for scenario in part.scenarios if scenarios else ():
        yield f"{scenario.id} [{scenario.split.value}]"
        yield from (f"  {name}: {text}" for name, text in scenario.texts.items())


def lint_lines(report: LintReport) -> Iterator[str]:
    """Yield the lint's problems, a table of figures and the sum."""
    yield from map(str, report.problems)
    yield (
        f"{'concept':<24} {'disc.':>5} {'conf.':>5} {'cues':>4} {'tokens':>13} {'overlap':>7} {'words':>5}"
        f" {'pairs':>5} {'order':>5} {'topic':>5} {'grade':>5}"
    )
    for c in report.concepts:
        grade = "" if c.grade is None else f"{c.grade:.1f}"
        accuracies = (c.word_accuracy, c.neighbour_accuracy, c.order_accuracy, c.topic_accuracy)
        lengths = f"{c.tokens:.1f}, {c.shortest}-{c.longest}"
        yield (
            f"{c.concept:<24} {c.discovery:>5} {c.confirmation:>5} {c.cues:>4} {lengths:>13} {c.overlap:>7.2f} "
            + " ".join(f"{accuracy:>5.2f}" for accuracy in accuracies)
            + f" {grade:>5}"
        )
    for m in report.mixes:
        counts = f"{m.discovery} + {m.confirmation} scenarios, {m.tokens:.1f} tokens a prompt"
        yield f"{m.mix}: {counts}, placebo {m.placebo}"
    yield (
        f"words: accuracy of a classifier on word counts, concept against control; chance 0.50, target at most"
        f" {TARGET_ACCURACY}. pairs: with neighbouring words. order: words by half of the text. topic: against neutral."
    )
    warnings = len(report.problems) - report.errors
    yield f"{len(report.concepts)} concepts, {len(report.mixes)} mixes: {report.errors} errors, {warnings} warnings"
