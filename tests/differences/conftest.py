"""Two sealed bundles of a planted model, and the sealed difference between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.differences.publishing import Parents, write_difference
from audit.progress import Silent
from audit.records import DifferenceResult
from audit.signing.keys import Signer
from tests.conftest import MOMENT
from tests.differences_making import Edit, Version, seal_version


@dataclass(frozen=True, slots=True)
class SealedDifference:
    """A sealed difference and what was compared; tests must not change them."""

    folder: Path
    parents: Parents
    result: DifferenceResult


@pytest.fixture(scope="package")
def difference(signer: Signer, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> SealedDifference:
    """Return a sealed difference in which one feature changed."""
    folder = tmp_path_factory.mktemp("differences")
    versions = {"base": Version(), "new": Version(edits=(Edit(9, 1.2, 0.5),), model="another model")}
    base, new = (seal_version(folder / name, version, signer) for name, version in versions.items())
    parents = Parents(base, new, trusted=certificate)
    out = folder / "difference"
    result = write_difference(
        parents, out, signer, now=MOMENT, command="affidavit diff base new --out difference", progress=Silent()
    )
    return SealedDifference(out, parents, result)
