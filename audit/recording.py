"""The tables of the evidence that hold results, so that SQL answers about them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.evidence.store import Store
from audit.graph import graph_of, graph_rows
from audit.records import Findings

Row = dict[str, object]


def record_findings(store: Store, findings: Findings) -> None:
    """Write the results into the evidence."""
    for table, rows in result_rows(findings).items():
        store.insert(table, rows)


def result_rows(findings: Findings) -> dict[str, Sequence[Mapping[str, object]]]:
    """Return table -> its rows, of every table that holds results."""
    drawn = graph_rows(graph_of(findings))
    return {
        "finding": _findings(findings),
        "reading": _readings(findings),
        "mix_effect": _mix_effects(findings),
        "co_firing": _joint_firings(findings),
        "dose": _doses(findings),
        "node": drawn.nodes,
        "edge": drawn.edges,
    }


def _findings(findings: Findings) -> list[Row]:
    return [
        {
            "finding": f.id,
            "concept": f.concept,
            "contrast": f.contrast.value,
            "sae": f.sae,
            "latent": f.latent,
            "rung": f.rung.value,
            "d_z": f.d_z.value,
            "d_z_low": f.d_z.low,
            "d_z_high": f.d_z.high,
            "auroc": f.auroc.value,
            "p_value": f.p_value,
            "p_holm": f.p_holm,
            "p_max_t": f.p_max_t,
            "selected_by": f.selected_by,
            "n_scenarios": f.n_scenarios,
            "lexical": f.lexical.value,
        }
        for concept in findings.concepts
        for contrast in concept.contrasts
        for f in contrast.findings
    ]


def _readings(findings: Findings) -> list[Row]:
    return [
        {
            "concept": concept.id,
            "contrast": c.contrast.value,
            "sae": c.sae,
            "reading": c.reading.value,
            "tested": c.tested,
            "selected": c.selected,
            "confirmed": c.confirmed,
            "probe_auroc": c.probe.auroc.value,
            "probe_p_holm": c.probe.p_holm,
        }
        for concept in findings.concepts
        for c in concept.contrasts
    ]


def _mix_effects(findings: Findings) -> list[Row]:
    return [
        {
            "mix": found.mix,
            "sae": found.sae,
            "latent": found.latent,
            "measure": tested.measure.value,
            "words": [word.value for word in found.words],
            "rung": found.rung.value,
            "effect": tested.effect.value,
            "effect_low": tested.effect.low,
            "effect_high": tested.effect.high,
            "against_placebo": tested.against_placebo.value,
            "p_value": tested.p_value,
            "p_holm": tested.p_holm,
            "n_scenarios": found.n_scenarios,
        }
        for mix in findings.mixes
        for scan in mix.scans
        for found in scan.findings
        for tested in found.effects
    ]


def _joint_firings(findings: Findings) -> list[Row]:
    return [
        {
            "sae": part.sae,
            "first": pair.first,
            "second": pair.second,
            "observed": pair.observed,
            "expected": pair.expected,
            "odds_ratio": None if pair.odds_ratio is None else pair.odds_ratio.value,
            "odds_ratio_low": None if pair.odds_ratio is None else pair.odds_ratio.low,
            "odds_ratio_high": None if pair.odds_ratio is None else pair.odds_ratio.high,
            "q_value": pair.q_value,
            "cosine": pair.cosine,
            "community": pair.community,
        }
        for part in findings.cofiring
        for pair in part.top
    ]


def _doses(findings: Findings) -> list[Row]:
    return [
        {
            "concept": held.concept,
            "sae": held.sae,
            "latents": list(held.latents),
            "dose": dose.dose,
            "n_scenarios": held.n_scenarios,
            "outcome": dose.outcome.value,
            "control_outcome": dose.control_outcome.value,
            "control_kl": dose.control_kl.value,
            "control_loss": dose.control_loss.value,
            "outcome_beside": dose.outcome_beside,
            "n_beside": dose.n_beside,
            "sham_outcomes": list(dose.sham_outcomes),
            "sham_control_kl": dose.sham_control_kl,
            "sham_control_loss": dose.sham_control_loss,
            "texts_changed": dose.texts_changed,
        }
        for held in (findings.causal.suppressions if findings.causal is not None else ())
        for dose in held.doses
    ]
