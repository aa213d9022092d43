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

WORDS: tuple[tuple[str, str], ...] = (
    (
        N_("Scenario"),
        N_(
            "One hand-written situation. Rewordings of one situation are never counted twice: n is the number of"
            " scenarios."
        ),
    ),
    (
        N_("Feature"),
        N_(
            "A pattern inside the model that the instrument can single out, known by a number. It has no name of"
            " its own; any label is an interpretation."
        ),
    ),
    (
        N_("Instrument (SAE)"),
        N_(
            "A sparse autoencoder: a second, small network that rewrites the model's inner state as a list of"
            " features. It is imperfect, so its fidelity is measured first."
        ),
    ),
    (
        N_("Layer, site"),
        N_(
            "The place at which an instrument looks. The model works in layers, counted from 0; “layer 15” is its"
            " inner state as that layer hands it on. What is not seen at one layer may be seen at another."
        ),
    ),
    (
        N_("Linear probe"),
        N_(
            "A simple check that reads the model's whole inner state at once, at the instrument's site. If it"
            " tells two cases apart and no single feature does, the model has the information and the instrument"
            " does not show it. It is made in two ways, difference of means and logistic regression; the one that"
            " did better on the discovery scenarios speaks for the model."
        ),
    ),
    (
        N_("Best single neuron"),
        N_(
            "The one of the model's own units, in the instrument's layer, that told the two cases apart best on the"
            " discovery scenarios. Where it does as well as the first feature, the instrument adds little."
        ),
    ),
    (
        N_("Bag of words"),
        N_(
            "A check that counts the words of the texts and never sees the model. What it can tell apart, the words"
            " alone give away. 0.5 means that they give nothing away."
        ),
    ),
    (
        N_("Set of features"),
        N_(
            "The first 5 or 20 features read together instead of the first alone. “Split or absorbed”: they do"
            " clearly better, so the concept is spread over several features and no single one stands for it."
        ),
    ),
    (
        N_("Control"),
        N_(
            "The same procedure with an instrument that learnt nothing, or only half. Random directions learnt"
            " nothing. A frozen random decoder learnt when its features react, but what they stand for stayed"
            " random. Only what exceeds every control that was measured is claimed."
        ),
    ),
    (
        N_("Power"),
        N_(
            "What could have been found: the smallest difference that had an 80% chance of passing the tests, with"
            " this number of scenarios and tests. Of smaller ones this report may be silent although they are"
            " there. It is computed under simple assumptions, and says nothing about how large a difference is."
        ),
    ),
    (
        "AUROC",
        N_(
            "How often the reading is higher in the one case than in its twin. 0.5 is a coin toss, 1 is always, 0"
            " is always the other way round."
        ),
    ),
    (
        "d_z",
        N_(
            "How large and how steady the difference is across scenarios: the mean difference divided by its"
            " spread. 0 is no difference; about 0.8 and above is usually called large. The sign says which case is"
            " higher."
        ),
    ),
    (
        N_("Interval"),
        N_(
            "A 95% interval: the range of values that the held-back scenarios support, obtained by resampling"
            " whole scenarios. A wide interval means little evidence. “No interval” means that every scenario gave"
            " the same value."
        ),
    ),
    (
        N_("p Holm, p max-T"),
        N_(
            "How surprising the result would be if there were no difference, corrected for the number of tests in"
            " two ways. Small is surprising; neither measures importance."
        ),
    ),
    (
        "q",
        N_(
            "Like p, for a list: of everything listed with a q up to 0.05, about one in twenty is expected to be a"
            " false alarm."
        ),
    ),
    (
        N_("Nats"),
        N_(
            "The unit of a model's answers: the natural logarithm of odds. A change of 0.1 nats shifts the odds of"
            " one word against another by about a tenth, one of 0.001 by a thousandth."
        ),
    ),
    (
        "KL",
        N_(
            "How far the model's whole prediction of the next word moved, in nats. 0 is not at all; it says nothing"
            " about the direction."
        ),
    ),
    (
        N_("Sham"),
        N_(
            "A meaningless change of the same size at the same words. A model's answer moves whatever is changed"
            " in it; an effect counts only if it lies beyond what shams do."
        ),
    ),
    (
        N_("Placebo"),
        N_(
            "A third, harmless subject in the place of the second concept of a mix. What it does as well is no"
            " interaction of two sensitive concepts."
        ),
    ),
    (
        N_("Error of the instrument, error node"),
        N_(
            "What is left of the model's inner state when all features are taken away. It is changed like a"
            " feature, to show how much of an answer no feature explains."
        ),
    ),
    (
        "FVU",
        N_(
            "Fraction of variance unexplained: how much of the model's inner state the instrument misses. 0 is"
            " nothing missed; 1 is no better than always guessing the average."
        ),
    ),
    (
        N_("Delta CE"),
        N_(
            "How much worse the model predicts the next token (in nats) when it has to work with the instrument's"
            " copy of its inner state."
        ),
    ),
    (
        N_("CE recovered"),
        N_(
            "How much of the prediction survives with the instrument's copy: 100% is no loss; 0% is no better than"
            " putting the mean residual of the site in its place."
        ),
    ),
    (
        N_("Certificate of the instrument"),
        N_(
            "What an instrument was measured to do on text that it was not trained on. It is not the certificate"
            " of the seal, which names who signed."
        ),
    ),
    (
        N_("Found again"),
        N_(
            "Whether a second training of the instrument, with another seed, has the same feature: a decoder"
            " cosine of 0.7 or more with its match, unless another limit is stated. A feature found once may be a"
            " matter of chance in the training."
        ),
    ),
    (
        N_("Discovery and confirmation"),
        N_(
            "Features are chosen on one part of the scenarios and measured on another. Every effect of a feature"
            " or a probe in this report is from the confirmation part only. The model's answers use all scenarios,"
            " since nothing was chosen."
        ),
    ),
)

LIMITATIONS: tuple[tuple[str, str], ...] = (
    (
        N_("No feature found does not mean no concept."),
        N_(
            "Absence of a feature is not absence of a concept. The model may hold it in a form, or at a place, that"
            " this instrument does not show."
        ),
    ),
    (
        N_("The results are about this model, seen this way."),
        N_(
            "They hold for this model digest, for each SAE at its own site, for this seed and this population of"
            " hand-written scenarios. Another version, another language or another kind of text needs another"
            " audit."
        ),
    ),
    (
        N_("One training of an instrument is one draw."),
        N_(
            "Which features an SAE has depends on the seed of its training. How many of them another training finds"
            " again is in the certificate, where it was measured; of the others this report rests on one training."
        ),
    ),
    (
        N_("Association is not use."),
        N_(
            "A feature that reacts to a concept need not be part of how the model answers. Even an effect of"
            " switching a feature off would not show that it is necessary in deployment."
        ),
    ),
    (
        N_("What was screened out is untested."),
        N_(
            "Features that fire too rarely to be tested, and pairs of features that were screened out, are"
            " untested. They were not found to be inactive."
        ),
    ),
    (
        N_("Labels are hints."),
        N_(
            "A label's score says how well a guess held on unseen scenarios of this audit, not that it is the right"
            " guess; labels that were not scored and example contexts are indicative only."
        ),
    ),
    (
        N_("The limits are conventions."),
        N_(
            "The colours of the instrument and the rungs of the ladder follow this project's conventions. They are"
            " printed, so that a reader who prefers other limits can apply them."
        ),
    ),
    (
        N_("A signature proves integrity, not truth."),
        N_(
            "It shows that the files have not changed since the holder of the key sealed them. It does not show"
            " that the content is right, and this report is not a determination of compliance."
        ),
    ),
)
