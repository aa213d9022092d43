"""Evidence that admits no test gives a named reason in the result: never a crash, never a pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from audit.assessment import Assessment, Reader, assess
from audit.evidence.store import ACTIVATIONS, DATABASE, Store
from audit.progress import Silent
from audit.records import Contrast, ControlKind, Reading
from probes.loader import load_suites
from tests.conftest import SealedAudit

FEW = """
UPDATE prompt SET arm = 'lost'
WHERE arm = 'neutral'
AND scenario IN (SELECT scenario FROM scenario WHERE split = 'confirmation' ORDER BY number OFFSET 5)
"""


@pytest.fixture
def evidence(audit: SealedAudit, tmp_path: Path) -> Path:
    """Return a folder with a copy of the real audit's evidence that a test may damage."""
    shutil.copy2(audit.folder / DATABASE, tmp_path / DATABASE)
    (tmp_path / ACTIVATIONS).symlink_to(audit.folder / ACTIVATIONS)
    return tmp_path


def assessed(audit: SealedAudit, folder: Path, *statements: str) -> Assessment:
    """Return the statistics of the audit's main SAE after the evidence was changed."""
    with duckdb.connect(str(folder / DATABASE)) as connection:
        for statement in statements:
            connection.execute(statement)
    config = audit.request.config
    suites = load_suites(config.probes.suites, subset=None)
    sae = audit.result.findings.saes[0]
    reader = Reader(sae.record, f"{sae.record.name}.random-directions", sae.exclusions.outlier_limit)
    with Store(folder) as store:
        return assess(store, suites, config, [reader], progress=Silent())


@pytest.mark.parametrize(
    ("statements", "reason", "untested"),
    [
        (
            ["UPDATE prompt SET arm = 'lost' WHERE arm = 'control' AND split = 'confirmation' AND frame <> 'outcome'"],
            "an arm is missing",
            {Contrast.DISTINCTION},
        ),
        ([FEW], "too few scenarios: 5", {Contrast.TOPIC}),
        (
            ["UPDATE residual SET mean = list_transform(mean, lambda x: 'nan'::FLOAT) WHERE prompt = 6"],
            "not finite",
            set(Contrast),
        ),
        (
            [
                "DELETE FROM prompt_feature",
                "UPDATE residual SET mean = list_transform(mean, lambda x: 1::FLOAT)",
                "UPDATE residual SET last = list_transform(last, lambda x: 1::FLOAT)",
            ],
            "constant activations",
            set(Contrast),
        ),
    ],
)
def test_what_cannot_be_tested_is_named(
    audit: SealedAudit, evidence: Path, statements: list[str], reason: str, untested: set[Contrast]
) -> None:
    """A missing arm, too few scenarios, NaN and constant activations each say so; the other contrast is tested."""
    (concept,) = assessed(audit, evidence, *statements).concepts
    assert {item.contrast for item in concept.untested} == untested
    assert all(reason in item.reason for item in concept.untested)
    assert {found.contrast for found in concept.contrasts} == set(Contrast) - untested


def test_untouched_evidence_gives_the_sealed_results(audit: SealedAudit, evidence: Path) -> None:
    """Assessed again from the database and the shards alone, the results are those of the audit."""
    (concept,) = assessed(audit, evidence).concepts
    (sealed,) = audit.result.findings.concepts
    for again, first in zip(concept.contrasts, sealed.contrasts[: len(Contrast)], strict=True):
        assert again.baselines == first.baselines
        assert [f.latent for f in again.findings] == [f.latent for f in first.findings]
        assert [f.d_z for f in again.findings] == [f.d_z for f in first.findings]
        # The frozen decoder was left out here: the other control must not depend on it.
        assert again.controls == tuple(c for c in first.controls if c.kind is ControlKind.RANDOM_DIRECTIONS)
        assert again.reading in set(Reading)
