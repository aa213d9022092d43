"""The tables of the evidence that hold results, so that SQL answers about them too."""

from __future__ import annotations

from audit.evidence.store import Store
from audit.records import Findings


def record_findings(store: Store, findings: Findings) -> None:
    """Write the results into the evidence, so that SQL answers about them too."""
    contrasts = [(concept, contrast) for concept in findings.concepts for contrast in concept.contrasts]
    store.insert(
        "finding",
        [
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
            for _, contrast in contrasts
            for f in contrast.findings
        ],
    )
    store.insert(
        "reading",
        [
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
            for concept, c in contrasts
        ],
    )
