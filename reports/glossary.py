"""The words that the report explains without mathematics, and what no report of this kind can say."""

from __future__ import annotations

from reports.language import N_

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
