"""A suite's data card: what is in it, where its definitions come from, what the lint measured, what it cannot show.

After Gebru et al. (2021), Datasheets for Datasets, shortened to what a reviewer of an audit asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from probes.lint import MOST_ALIKE, TARGET_ACCURACY, ConceptFigures, CountTokens, LintReport, MixFigures, lint
from probes.schema import Arm, Concept, Suite


def data_card(suite: Suite, count_tokens: CountTokens, *, tokenizer: str) -> str:
    """Return the card in Markdown. Every figure in it is counted or measured on the suite as it is now."""
    report = lint([suite], count_tokens, tokenizer=tokenizer)
    return "\n".join(_lines(suite, report)) + "\n"


def _lines(suite: Suite, report: LintReport) -> Iterator[str]:
    yield f"# Data card: {suite.title}"
    yield ""
    written = "Written by `affidavit suites card`; do not edit."
    yield f"{written} Tokens are those of the tokenizer `{report.tokenizer}`."
    yield ""
    yield from _counts(suite, report)
    yield from _problems(suite, report)
    if suite.concepts:
        yield from _figures(report.concepts)
        for concept in suite.concepts:
            yield from _concept(concept, withheld=suite.withheld)
    if suite.mixes:
        yield from _mixes(suite, report.mixes)
    yield "## Known limits"
    yield ""
    yield from (f"- {limit}" for limit in suite.limits or ("None were stated by its authors.",))


def _counts(suite: Suite, report: LintReport) -> Iterator[str]:
    scenarios = sum(len(concept.scenarios) for concept in suite.concepts)
    arms = sum(len(s.arms) for concept in suite.concepts for s in concept.scenarios)
    questions = sum(2 * len(c.scenarios) for c in suite.concepts if c.outcome is not None)
    mixed = sum(len(mix.scenarios) for mix in suite.mixes)
    rows = [
        ("version", suite.version),
        ("digest", f"`{suite.digest}`"),
        ("language", suite.language),
        ("texts in bundles", "withheld" if suite.withheld else "printed"),
        ("concepts", str(len(suite.concepts))),
        ("scenarios", str(scenarios)),
        (
            "texts",
            f"{arms} arms, {arms * len(suite.frames)} prompts in {len(suite.frames)} frames, {questions} questions",
        ),
        ("mixes", f"{len(suite.mixes)}, {mixed} scenarios, 12 prompts each" if suite.mixes else "none"),
        ("lint", f"{report.errors} errors, {len(report.problems) - report.errors} warnings"),
    ]
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {value} |" for name, value in rows)
    yield ""


def _problems(suite: Suite, report: LintReport) -> Iterator[str]:
    if not report.problems:
        shared = f"no two texts of a kind share more than {MOST_ALIKE:.0%} of their word trigrams"
        yield f"The lint found nothing wrong: for one, {shared}."
    for problem in report.problems:
        # What was found may quote a text.
        yield f"- {problem.level.value}: {problem.where}: {problem.rule}" if suite.withheld else f"- {problem}"
    yield ""


def _figures(figures: tuple[ConceptFigures, ...]) -> Iterator[str]:
    yield "## Figures"
    yield ""
    yield "| concept | split | with cues | tokens | overlap | words | neighbours | order | topic | grade |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for c in figures:
        accuracies = (c.word_accuracy, c.neighbour_accuracy, c.order_accuracy, c.topic_accuracy)
        measured = [
            f"{c.tokens:.1f} ({c.shortest} to {c.longest})",
            f"{c.overlap:.2f}",
            *(f"{accuracy:.2f}" for accuracy in accuracies),
        ]
        grade = "" if c.grade is None else f"{c.grade:.1f}"
        yield f"| {' | '.join([c.title, f'{c.discovery} + {c.confirmation}', str(c.cues), *measured, grade])} |"
    yield ""
    yield (
        "*tokens*: mean, shortest and longest concept arm. *overlap*: mean Jaccard overlap of the bags of words of"
        " concept and control. *words*: five-fold cross-validated accuracy of logistic regression on word counts,"
        " concept against control, both arms of a scenario held out together; chance is 0.50, the target at most"
        f" {TARGET_ACCURACY}; values below 0.50 come from words that are balanced over the scenarios and so mislead"
        " across folds. *neighbours*: the same with pairs of neighbouring words. *order*: the same with each word"
        " marked by the half of the text in which it stands. *topic*: concept against neutral, high by design."
        " *grade*: Flesch-Kincaid, school years. *split*: scenarios for discovery and for confirmation."
    )
    yield ""


def _concept(concept: Concept, *, withheld: bool) -> Iterator[str]:
    yield f"## {concept.title} (`{concept.id}`)"
    yield ""
    yield concept.definition
    yield ""
    yield f"Why: {concept.why}"
    yield ""
    if concept.outcome is not None:
        question = concept.outcome.ask("...")
        yield f'Question: "{question}", {concept.outcome.target} against {concept.outcome.foil}.'
        yield ""
    yield "Sources of the definition:"
    yield ""
    yield from (f"- {rule.name}: {rule.clause}" for rule in concept.rules)
    yield ""
    if withheld:
        return
    first = concept.scenarios[0]
    yield "For example:"
    yield ""
    yield from (f"- {arm.value}: {first.arms[arm]}" for arm in Arm if arm in first.arms)
    yield ""


def _mixes(suite: Suite, figures: tuple[MixFigures, ...]) -> Iterator[str]:
    yield "## Mixes"
    yield ""
    yield "| mix | concepts | placebo | discovery + confirmation | tokens a prompt |"
    yield "|---|---|---|---|---|"
    for m in figures:
        counts = f"{m.discovery} + {m.confirmation} | {m.tokens:.1f}"
        yield f"| {m.title} | {', '.join(m.concepts)} | {m.placebo} | {counts} |"
    yield ""
    for mix in suite.mixes:
        yield f"**{mix.title}.** {mix.why}" + ("" if suite.withheld else " For example:")
        yield ""
        if not suite.withheld:
            yield from (f"- {name}: {text}" for name, text in mix.scenarios[0].texts.items())
            yield ""
