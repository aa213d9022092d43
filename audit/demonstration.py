"""What changed, shown on models whose difference is known: audits, a fine-tuned model and comparisons that can resume.

Each step leaves a folder that appears whole or not at all. A step whose folder is there, and is what the step would
make, is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from audit.against import read_base, settings_against
from audit.capture.sae_sources import MAIN
from audit.config import (
    AnalysisConfig,
    AuditConfig,
    Dtype,
    ModelConfig,
    ProbeConfig,
    SaeConfig,
)
from audit.differences.parents import Opened, open_parent
from audit.differences.publishing import Parents, write_difference
from audit.digests import Json, canonical_json
from audit.errors import OutputError, UsageError
from audit.pipeline import run_audit
from audit.planning import public_config
from audit.progress import Progress
from audit.records import DifferenceResult
from audit.request import AuditRequest
from audit.signing.bundle_files import DIFFERENCE
from audit.signing.difference import read_difference
from audit.signing.signer import Signer
from audit.training.finetuning import RECORD_FILE, FinetuneRecipe, make_organism
from audit.workspace import ATTESTATION
from probes.organism_files import OrganismText, shipped_organism

# The fine-tuned model of the demonstration, and the part of each suite that it runs.
ORGANISM = "dosing_error"
_SUBSET = "demo"
# What an audit asked, and by which limits; budgets of other tests, the report and the seal may be others.
_DECIDING = ("model", "sae", "probes", "capture", "analysis", "fidelity", "interaction")


@dataclass(frozen=True, slots=True)
class Bench:
    """Who seals what a series of steps makes.

    Args:
        signer: the key.
        certificate: the file that pins it.
        command: what was typed.
        progress: listener.
        clock: gives the moment of each seal, with a time zone, to the second: the steps are minutes apart.
    """

    signer: Signer
    certificate: Path
    command: str
    progress: Progress
    clock: Callable[[], datetime]

    def audit(self, config: AuditConfig, out: Path) -> Opened:
        """Return the sealed audit of a configuration, made unless it is there.

        Raises:
            OutputError: the folder holds an audit of something else.
            AffidavitError: as `run_audit`; or the bundle that is there does not verify.
        """
        if (out / ATTESTATION).exists():
            found = self.open(out)
            if unlike := self.differences(found, config):
                raise OutputError(
                    item=str(out),
                    expected="the audit of this step, or no folder",
                    found=f"one with another {', '.join(unlike)}",
                    hint="Choose another --out.",
                )
            return found
        self.progress.say(f"auditing {out.name}")
        run_audit(AuditRequest(config, out, self.signer, self.clock(), self.command), progress=self.progress)
        return self.open(out)

    def open(self, folder: Path) -> Opened:
        """Verify a bundle and read its record."""
        return open_parent(folder, trusted=self.certificate, now=self.clock())

    def differences(self, found: Opened, config: AuditConfig) -> list[str]:
        """Return the sections of the configuration in which an audit is another one than this would be."""
        one, other = found.record.run.config, public_config(config)
        return [name for name in _DECIDING if _bytes(one.get(name)) != _bytes(other[name])]

    def organism(self, text: OrganismText, out: Path, recipe: FinetuneRecipe, *, base: str) -> Mapping[str, Json]:
        """Return the record of a model fine-tuned from a base, made unless it is there.

        Raises:
            OutputError: the folder holds something else.
            AffidavitError: as `make_organism`.
        """
        if not out.exists():
            make_organism(text, out, recipe=recipe, base=base, progress=self.progress)
        try:
            record: dict[str, Json] = json.loads((out / RECORD_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _not_ours(out, type(error).__name__) from error
        wanted = json.loads(json.dumps(asdict(recipe)))
        if record.get("file_digest") != text.digest or record.get("recipe") != wanted:
            raise _not_ours(out, "a model of another recipe or other documents")
        return record

    def difference(self, parents: Parents, out: Path) -> DifferenceResult:
        """Return the sealed comparison of bundles, made unless it is there.

        Raises:
            AffidavitError: as `write_difference`, or what is there cannot be read.
        """
        if not (out / ATTESTATION).exists():
            write_difference(parents, out, self.signer, now=self.clock(), command=self.command, progress=self.progress)
        return read_difference((out / DIFFERENCE).read_bytes())


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demonstration found.

    Args:
        organism: the record of the fine-tuned model; `concept`: what its documents are about.
        rounding: the comparison with the same model in bf16; tuned: with the fine-tuned one.
    """

    base: Path
    organism: Mapping[str, Json]
    concept: str
    rounding: DifferenceResult
    rounding_folder: Path
    tuned: DifferenceResult
    tuned_folder: Path


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What is audited and what is learnt.

    Args:
        config: of the base's audit; the others differ in the model alone.
        text: what the fine-tuned model learns; recipe: how.
    """

    config: AuditConfig
    text: OrganismText
    recipe: FinetuneRecipe


def shipped_demonstration(base: Path | None, *, certificate: Path, now: datetime) -> Demonstration:
    """Return the demonstration with the default model: the demo part, one SAE, no interventions.

    Causal tests are not compared between models, nor are control SAEs; the reports say that they are missing.

    Args:
        base: a sealed audit of the default model, whose questions, SAEs and limits are then used; None for those above.
        certificate: pins its signer.
        now: the clock.

    Raises:
        UsageError: the base is a redacted copy, or of another model, or names suites or SAEs that do not ship.
        EvidenceError: it does not verify.
    """
    config = AuditConfig(
        sae=SaeConfig(sources=(MAIN,), controls=()),
        probes=ProbeConfig(subset=_SUBSET),
        analysis=AnalysisConfig(permutations=40),
    )
    if base is not None:
        read = read_base(base, trusted=certificate, now=now)
        if read.config.model != ModelConfig():
            raise UsageError(
                item=f"--base {base}",
                expected="an audit of the default model in fp32",
                found=f"one of {read.config.model.source} in {read.config.model.dtype.value}",
                hint="Leave --base out: a base is then audited first.",
            )
        config = settings_against(read, path=None, model=None)
    config = replace(config, causal=replace(config.causal, budget="none"))
    return Demonstration(config, shipped_organism(ORGANISM), FinetuneRecipe())


def demonstrate(folder: Path, shown: Demonstration, bench: Bench, *, base: Path | None = None) -> Shown:
    """Compare a model with itself in bf16, and with itself after a short fine-tuning on one concept.

    Args:
        folder: where everything goes; what is finished there is kept and not made again.
        shown: what is audited and learnt.
        bench: who seals.
        base: a sealed audit to start from; None makes one.

    Raises:
        AffidavitError: as the steps.
    """
    config, text = shown.config, shown.text
    folder.mkdir(parents=True, exist_ok=True)
    if base is None:
        base = folder / "base"
        bench.audit(config, base)
    model, rounded, tuned = folder / f"model-{text.id}", folder / "bf16", folder / text.id
    record = bench.organism(text, model, shown.recipe, base=config.model.source)
    bench.audit(replace(config, model=replace(config.model, dtype=Dtype.BF16)), rounded)
    bench.audit(replace(config, model=replace(config.model, source=str(model))), tuned)
    one, other = folder / "difference-bf16", folder / f"difference-{text.id}"
    pinned = bench.certificate
    return Shown(
        base=base,
        organism=record,
        concept=text.concept or text.id,
        rounding=bench.difference(Parents(base, rounded, (), pinned), one),
        rounding_folder=one,
        # The base's own model in other arithmetic is the noise that a change must exceed.
        tuned=bench.difference(Parents(base, tuned, (rounded,), pinned), other),
        tuned_folder=other,
    )


def _bytes(section: Json) -> bytes:
    return canonical_json({"section": section})


def _not_ours(out: Path, found: str) -> OutputError:
    return OutputError(
        item=str(out),
        expected="the fine-tuned model of this step, or no folder",
        found=found,
        hint="Choose another --out, or remove the folder.",
    )
