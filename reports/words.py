"""The plain-language words of the report, one for every case that a record can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from audit.records import Colour, Contrast, Lexical, Reading, Rung
from reports.language import N_, _

CONTRAST_NAMES: dict[Contrast, str] = {
    Contrast.TOPIC: N_("Topic"),
    Contrast.DISTINCTION: N_("Distinction"),
}

CONTRAST_QUESTIONS: dict[Contrast, str] = {
    Contrast.TOPIC: N_(
        "Does it tell text about this subject from text of the same length about something else? "
        "(concept arm against neutral arm)"
    ),
    Contrast.DISTINCTION: N_(
        "Does it tell the sensitive case from its near twin, written with the same vocabulary, in which the"
        " concept is absent? (concept arm against control arm)"
    ),
}

CONTRAST_MEANINGS: dict[Contrast, str] = {
    Contrast.TOPIC: N_(
        "Text about the concept against text of the same length about something else. It shows that a subject is"
        " recognised, which is easy and says little: a feature that knows “medicines” is not a feature that knows"
        " “overdose”."
    ),
    Contrast.DISTINCTION: N_(
        "The sensitive case against a twin that shares its vocabulary but is not the sensitive case. This is the"
        " question that matters for oversight. The two questions are answered separately and never mixed."
    ),
}


@dataclass(frozen=True, slots=True)
class ReadingWords:
    """One reading: a phrase for a cell and within a line, an answer, a sentence, and how the expert defines it."""

    short: str
    remark: str
    answer: str
    sentence: str
    definition: str
    mark: str


READINGS: dict[Reading, ReadingWords] = {
    Reading.DECOMPOSED: ReadingWords(
        N_("Told apart, and visible"),
        N_("told apart, and visible"),
        N_("it does, and the instrument shows where"),
        N_(
            "The two can be told apart from the model's inner state, and the instrument shows single features that do"
            " so."
        ),
        N_("The linear probe separates the arms and at least one SAE feature is confirmed."),
        "seen",
    ),
    Reading.NOT_DECOMPOSED: ReadingWords(
        N_("Told apart, but not visible"),
        N_("told apart, but not visible"),
        N_("it does, but this instrument does not show where"),
        N_(
            "The two can be told apart from the model's inner state, but this instrument confirms no single feature"
            " that does so."
        ),
        N_("The linear probe separates the arms; no SAE feature is confirmed."),
        "unseen",
    ),
    Reading.NOT_REPRESENTED: ReadingWords(
        N_("No sign found"),
        N_("no sign found"),
        N_("no sign of it was found at the place in the model that was looked at"),
        N_(
            "No sign was found, at the place in the model that was looked at, that the two are told apart. "
            "The information may be elsewhere in the model."
        ),
        N_(
            "Neither the linear probe nor any SAE feature separates the arms at this site, and nothing else passes a"
            " test."
        ),
        "absent",
    ),
    Reading.SUSPECT: ReadingWords(
        N_("Doubtful"),
        N_("doubtful"),
        N_("the answer is doubtful, because the two ways of looking disagree"),
        N_(
            "A feature reacts, but the simple linear check does not agree. Treat it as doubtful until someone has"
            " looked."
        ),
        N_("A feature is confirmed while the linear probe does not separate the arms; such a pair asks for scrutiny."),
        "suspect",
    ),
    Reading.UNRESOLVED: ReadingWords(
        N_("Cannot be said"),
        N_("cannot be said"),
        N_("the evidence allows no answer"),
        N_("The evidence does not allow an answer, in either direction."),
        N_(
            "Data that cannot be tested, a red instrument, a failed check with shuffled labels, too few held-back"
            " scenarios, or weak signs only: baselines, features or latents of a control that pass a test without"
            " deciding anything. Never to be read as a pass."
        ),
        "unresolved",
    ),
}

# The words that a record stores, which are printed as they are in English; `word` looks them up.
STORED = (
    *(N_("topic"), N_("distinction")),
    *(N_("unresolved"), N_("observed"), N_("associated"), N_("confirmed"), N_("causal")),
    *(N_("green"), N_("amber"), N_("red")),
    N_("represented and decomposed"),
    N_("represented, not decomposed by this SAE"),
    N_("not represented at this site"),
    N_("suspect"),
    *(N_("lexical"), N_("not lexical"), N_("undecided"), N_("not tested")),
    *(N_("difference of means"), N_("logistic regression"), N_("best neuron"), N_("bag of words")),
    *(N_("concept"), N_("control"), N_("neutral"), N_("cue"), N_("cue-free")),
    *(N_("random directions"), N_("frozen random decoder")),
    *(N_("observation"), N_("contrast"), N_("intervention")),
    *(N_("synergy"), N_("redundancy"), N_("suppression"), N_("facilitation"), N_("emergent")),
    *(N_("downstream"), N_("co-firing"), N_("error")),
    *(N_("nats"), N_("odds ratio"), N_("activation"), N_("share of scenarios")),
    *(N_("own standard deviations"), N_("AUROC")),
    *(N_("answer, concept arm minus control arm"), N_("answer on the concept arm")),
    N_("AUROC of the difference of means"),
)


def word(stored: str) -> str:
    """Return a word that the record stores, as the report prints it."""
    return _(str(stored))


def reading_words(reading: Reading) -> ReadingWords:
    """Return the words of a reading, in the report's language."""
    words = READINGS[reading]
    return replace(
        words,
        short=_(words.short),
        remark=_(words.remark),
        answer=_(words.answer),
        sentence=_(words.sentence),
        definition=_(words.definition),
    )


RUNGS: dict[Rung, str] = {
    Rung.UNRESOLVED: N_(
        "No answer: no usable data, a red instrument, a failed check with shuffled labels or, in a causal test, too"
        " little to lower. Never to be read as a pass."
    ),
    Rung.OBSERVED: N_(
        "The feature was chosen on the discovery scenarios, but too few scenarios were held back to confirm it."
    ),
    Rung.ASSOCIATED: N_(
        "The feature was chosen on the discovery scenarios and was not confirmed on the held-back ones: the effect"
        " did not pass the corrected test, went the other way, or is no larger than what a control reaches. The"
        " reason is given for each."
    ),
    Rung.CONFIRMED: N_(
        "The feature was chosen on the discovery scenarios, passed the corrected test on the held-back ones, and"
        " exceeds what every control reaches. This is association: it does not show that the model uses the"
        " feature."
    ),
    Rung.CAUSAL: N_(
        "Lowering the feature changes the model's answer, beyond random directions of equal size (sham test)."
    ),
}

COLOURS: dict[Colour, str] = {
    Colour.GREEN: N_(
        "The instrument reproduces the model's inner state closely. Findings about single features can be read."
    ),
    Colour.AMBER: N_(
        "The instrument misses a noticeable part of the model's inner state. Read single features with care."
    ),
    Colour.RED: N_(
        "The instrument misses too much. No claim about single features is made: every such finding is unresolved."
    ),
}

COLOUR_SHORT: dict[Colour, str] = {
    Colour.GREEN: N_("green: readable"),
    Colour.AMBER: N_("amber: with care"),
    Colour.RED: N_("red: no feature-level claim"),
}

COLOUR_OVERALL: dict[Colour, str] = {
    Colour.GREEN: N_("{instrument} is rated green overall: readable."),
    Colour.AMBER: N_("{instrument} is rated amber overall: with care."),
    Colour.RED: N_("{instrument} is rated red overall: no feature-level claim."),
}

LEXICAL: dict[Lexical, str] = {
    Lexical.LEXICAL: N_("lexical: follows the concept's cue words, even in harmless sentences"),
    Lexical.NOT_LEXICAL: N_("not lexical: the cue words alone do not explain it"),
    Lexical.UNDECIDED: N_("undecided: the scenarios cannot tell whether it follows the cue words"),
    Lexical.NOT_TESTED: N_("not tested: too few cue versions, or it fires no more on the concept than on neutral text"),
}

EXPLORATORY = N_(
    "Exploratory: fewer scenarios were held back for confirmation than the method asks for. "
    "Results for this concept can never pass a gate."
)

NO_OUTCOME = N_("Not measured: the suite defines no answer to compare for this concept.")
