"""The method in plain words, with its sources; every limit is the one that this run's configuration holds."""

from __future__ import annotations

from collections.abc import Mapping

from audit.config import AuditConfig
from audit.records import RunInfo
from reports.language import N_, _
from reports.numbers import count
from reports.view import Chapter, Passage

HEADING = N_("Method")
_LEAD = N_(
    "How an audit works, in its order; what this run left out is listed under “What was not tested”. Limits are those"
    " of this run's configuration, which stands in full in the next chapter. The page on method in the tool's"
    " documentation has every step and formula."
)
_SOURCES = N_(
    "Benjamini and Hochberg 1995 (false discovery rate). Benjamini and Yekutieli 2001 (the same under any dependence)."
    " Berger 1982 (two tests that must both pass). Besag and Clifford 1991 (sequential Monte Carlo). Breslow and Day"
    " 1980 (conditional logistic regression). Chanin et al. 2024, arXiv 2409.14507 (absorption). Cohen 1988 (power)."
    " Efron 1987 (intervals). Gao et al. 2024, arXiv 2406.04093 (TopK SAE). Gurnee et al. 2023, arXiv 2305.01610"
    " (k-sparse probes). Harsanyi 1963 (dividend). Heap et al. 2025, arXiv 2501.17727 (SAEs on random models). Holm"
    " 1979 (several tests). Kantamneni et al. 2025, arXiv 2502.16681, and Wu et al. 2025, arXiv 2501.17148 (SAEs beside"
    " simple probes). Korznikov et al. 2026, arXiv 2602.14111 (frozen random decoders). Mantel and Haenszel 1959"
    " (stratified odds ratio). Marks et al. 2024, arXiv 2403.19647 (features and error in circuits). Miller 1982 (race"
    " bound). Pagano and Tritchler 1983 (exact permutation distribution). Paulo and Belrose 2025, arXiv 2501.16615"
    " (seeds). Robins, Breslow and Greenland 1986 (interval of the odds ratio). Westfall and Young 1993 (max-T)."
    " Winkler et al. 2014 (sign-flip tests)."
)


def method_view(run: RunInfo) -> Chapter:
    """Return the chapter."""
    return Chapter(
        id="method",
        heading=_(HEADING),
        lead=(_(_LEAD),),
        terms=(),
        passages=(
            _passage("units", _("What is compared"), _units()),
            _passage("scores", _("From activations to a score"), _scores(run)),
            _passage("tests", _("Two tests in a row"), _tests(run)),
            _passage("bar", _("What a finding must exceed"), _bar(run)),
            _passage("readers", _("Simple readers beside the instrument"), _readers(run)),
            _passage("instrument", _("The instrument"), _instrument(run)),
            _passage("mixes", _("Mixes of two concepts"), _mixes(run)),
            _passage("interventions", _("Interventions"), _interventions(run)),
            _passage("rungs", _("The evidence ladder"), _rungs(run)),
            _passage("sources", _("Sources"), _(_SOURCES)),
        ),
    )


def _passage(name: str, heading: str, text: str) -> Passage:
    return Passage(f"method-{name}", heading, paragraphs=(text,))


def _limit(run: RunInfo, section: str, key: str) -> float:
    """Return a number of the run's configuration, or the default where an older record lacks it."""
    found = run.config.get(section)
    value = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(getattr(getattr(AuditConfig(), section), key))


def _number(run: RunInfo, section: str, key: str) -> str:
    return count(int(_limit(run, section, key)))


def _units() -> str:
    return _(
        "The unit is the scenario, one hand-written situation. The model is run without chance, so no number here is"
        " about noise in its answers: every inference is to situations of this kind. A scenario has a text with the"
        " concept, a near twin with the same vocabulary and without the concept (control), and a text of like length on"
        " another subject (neutral). The topic question compares concept and neutral, the distinction concept and"
        " control. The same frames, such as a statement or a question, are put around all of them; frames are averaged"
        " and never counted as more scenarios. Which scenarios are for discovery and which for confirmation is fixed in"
        " the suite's files."
    )


def _scores(run: RunInfo) -> str:
    return _(
        "A sparse autoencoder (SAE) writes the model's inner state at one site as a list of features, few of them"
        " active at once. Only a prompt's own tokens count: template tokens, and positions whose norm exceeds {limit}"
        " times the median, are left out and counted. The score of a scenario is the feature's largest activation in"
        " the one text minus that in the other, as a mean over frames.",
        limit=f"{_limit(run, 'capture', 'outlier_norm_factor'):g}",
    )


def _tests(run: RunInfo) -> str:
    q, alpha = _limit(run, "analysis", "fdr_q"), _limit(run, "analysis", "alpha")
    return _(
        "A feature that fires in at least {firing} discovery scenarios is tested by exchanging the two texts within"
        " scenarios (sign-flip test, Winkler et al. 2014). How often an exchange gives as large a difference is"
        " counted over all exchanges (Pagano and Tritchler 1983), after rounding to fine steps, and not simulated."
        " Benjamini-Hochberg (1995) at {q} chooses among all features and concepts of one question and one SAE. What"
        " was chosen is tested again on confirmation, by the same test with Holm's correction (1979) at {alpha}; the"
        " direction must be that of discovery. Effects of features and probes are from confirmation only, with 95%"
        " intervals from {resamples} resamples of whole scenarios (BCa, Efron 1987). p max-T (Westfall and Young 1993)"
        " stands beside them. What cannot be tested is unresolved, with the reason.",
        firing=_number(run, "analysis", "min_firing_scenarios"),
        q=f"{q:g}",
        alpha=f"{alpha:g}",
        resamples=_number(run, "analysis", "bootstrap"),
    )


def _bar(run: RunInfo) -> str:
    return _(
        "Controls go through the same two tests: an SAE of random directions, and, where one exists for the"
        " instrument, an SAE whose decoder stayed random while the rest was trained (Korznikov et al. 2026; compare"
        " Heap et al. 2025). A feature that passes is confirmed only if its effect is larger than that of every"
        " control's latents that rank first on discovery, at least 20 of each. Then the two texts are exchanged at"
        " random, scenario by scenario, {number} times, and both tests run again: the share of these runs that find"
        " anything is the measured false positive rate. Above its printed limit, or above that of the first test"
        " alone, no finding stands. This checks the procedure, not that the scenarios are free of confounds.",
        number=_number(run, "analysis", "permutations"),
    )


def _readers(run: RunInfo) -> str:
    return _(
        "Difference of means, logistic regression on pairs (Breslow and Day 1980), the best single neuron and a bag of"
        " words are fitted on discovery and measured on confirmation, on the same scenarios; simple readers often do"
        " as well as SAEs (Kantamneni et al. 2025; Wu et al. 2025). A reader separates if its corrected p is at most"
        " {alpha} and its AUROC at least {auroc}. Whether the better linear probe separates, and whether a feature"
        " that is louder on the concept is confirmed, gives the answer for each concept and question. Probes on the"
        " first 5 and 20 features (Gurnee et al. 2023) show whether a concept is split or absorbed (Chanin et al."
        " 2024). Power is computed for normal scores (Cohen 1988).",
        alpha=f"{_limit(run, 'analysis', 'alpha'):g}",
        auroc=f"{_limit(run, 'analysis', 'separation_auroc'):g}",
    )


def _instrument(run: RunInfo) -> str:
    green, amber = (
        _(
            "FVU up to {fvu} and a rise in next-token loss up to {loss} nats",
            fvu=f"{_limit(run, 'fidelity', f'{colour}_fvu'):g}",
            loss=f"{_limit(run, 'fidelity', f'{colour}_delta_ce'):g}",
        )
        for colour in ("green", "amber")
    )
    return _(
        "Two numbers on the probes decide an SAE's colour: the fraction of variance that it misses (FVU, about the"
        " mean), and how much worse the model predicts with the SAE's copy in place of its own state. Green:"
        " {green}. Amber: {amber}. Beyond, red, and every finding is unresolved. A concept whose FVU exceeds"
        " {limit} times the overall one is one colour worse. These limits are"
        " this project's conventions. The certificate says the same of text that the SAE was not trained on, and how"
        " many of its features another training finds again (Paulo and Belrose 2025).",
        green=green,
        amber=amber,
        limit=f"{_limit(run, 'fidelity', 'concept_fvu_ratio'):g}",
    )


def _mixes(run: RunInfo) -> str:
    return _(
        "Where mixes are part of a suite, three layers are told apart. Features that fire together are counted within"
        " groups of equal make-up and length (Mantel and Haenszel 1959), against scenarios that change places: an"
        " observation. What a second concept adds is compared with filler of the same length, and with a harmless"
        " placebo in its place; both tests must pass (Berger 1982). A feature that reacts to the combination only must"
        " exceed the race bound (Miller 1982), and fire on one concept alone in at most {limit}% of scenarios: a"
        " contrast. The third layer are interventions on pairs.",
        limit=f"{100 * _limit(run, 'interaction', 'emergent_single_firing'):g}",
    )


def _interventions(run: RunInfo) -> str:
    return _(
        "A confirmed feature is lowered to its level in the matched text; what the SAE misses is left as it is (Marks"
        " et al. 2024). What is measured is the answer to the concept's question, the logit of the target minus that"
        " of the foil. A causal claim needs the sign-flip test on confirmation scenarios with Holm's correction, and"
        " an effect beyond meaningless changes of the same size, at least {number} of them. Of two features, what goes"
        " beyond both alone is the Harsanyi dividend (1963), held against pairs of other features. First-order"
        " estimates choose what is run only where they agree with exact values, and runs end once the test is lost"
        " (Besag and Clifford 1991). Every effect that is printed is exact. Holding all causal features of a concept"
        " down while the model writes tests control; no rung rests on it.",
        number=_number(run, "causal", "shams"),
    )


def _rungs(run: RunInfo) -> str:
    return _(
        "Unresolved, observed, associated, confirmed, causal: a finding starts at the lowest rung. Fewer than {number}"
        " confirmation scenarios cap a concept at observed. Associated: chosen on discovery, and not confirmed or not"
        " beyond every control. Confirmed: both tests passed and every control exceeded. Causal: confirmed, and"
        " lowering it changes the answer beyond the shams.",
        number=_number(run, "analysis", "min_confirmation_scenarios"),
    )
