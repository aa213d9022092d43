"""What reduced precision did to the findings: some probes again in float32, and every finding on them compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.capture.fitting import stations
from audit.capture.halving import is_out_of_memory
from audit.capture.jobs import plan_jobs, run_halving
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import TokenisedPrompt
from audit.capture.shards import RowBlock
from audit.config import AuditConfig, Dtype
from audit.errors import ModelUnavailable, TooLarge
from audit.gathering import Subject, fidelity_sample
from audit.progress import Progress
from audit.records import Contrast, Finding, PrecisionResult
from probes.schema import Arm

_BASELINE = {Contrast.TOPIC: Arm.NEUTRAL, Contrast.DISTINCTION: Arm.CONTROL}
_Key = tuple[int, int, int]


def compare_precision(
    subject: Subject, config: AuditConfig, findings: Iterable[Finding], progress: Progress
) -> dict[str, PrecisionResult]:
    """Return for each SAE how its latents and its findings differ from those of a float32 forward pass.

    The prompts are those of the fidelity sample. A finding's effect on a scenario is the difference of the latent's
    largest activation between the two arms; its shift is the mean absolute change of these differences over their
    standard deviation in float32.

    Args:
        subject: what was audited, in reduced precision.
        config: of the audit.
        findings: all findings of the audit.
        progress: listener.

    Returns:
        SAE name -> result; nothing when the audit ran in float32, or when the float32 model does not fit into memory.
    """
    if config.model.dtype is Dtype.FP32:
        return {}
    sample = fidelity_sample(subject, scenarios=config.fidelity.spliced_scenarios)
    progress.say("loading the model in fp32 for comparison")
    rows = {}
    try:
        reference = load_model(replace(config.model, dtype=Dtype.FP32), say=progress.say)
        with progress.stage("comparing with fp32", total=2 * len(sample)) as advance:
            for name, model in (("used", subject.model), ("reference", reference)):
                rows[name] = _rows(subject, model, sample)
                advance(len(sample))
    except (RuntimeError, MemoryError, TooLarge, ModelUnavailable) as error:
        # The audit stands without the comparison; the report says that it is missing.
        if not (isinstance(error, TooLarge) or is_out_of_memory(error) or is_out_of_memory(error.__cause__ or error)):
            raise
        progress.say("not compared with fp32: the model does not fit into memory in fp32")
        return {}
    found = list(findings)
    return {
        name: _compare(
            sample,
            rows["used"][name],
            rows["reference"][name],
            [finding for finding in found if finding.sae == name],
        )
        for name in rows["used"]
    }


def _rows(subject: Subject, model: LoadedModel, sample: Sequence[TokenisedPrompt]) -> dict[str, RowBlock]:
    """Return the trained SAEs' rows of the sample, by the name of the SAE."""
    places = stations([i.fitted for i in subject.instruments], subject.calibrations)
    blocks: dict[str, list[RowBlock]] = {}
    for job in plan_jobs(model, places, sample, batch_tokens=model.batch_tokens):
        for block in run_halving(model, places, job.batch).rows:
            blocks.setdefault(block.sae, []).append(block)
    return {
        name: RowBlock(
            sae=name,
            prompt=np.concatenate([part.prompt for part in parts]),
            position=np.concatenate([part.position for part in parts]),
            latent=np.concatenate([part.latent for part in parts]),
            activation=np.concatenate([part.activation for part in parts]),
        )
        for name, parts in blocks.items()
    }


def _compare(
    sample: Sequence[TokenisedPrompt], used: RowBlock, reference: RowBlock, findings: Sequence[Finding]
) -> PrecisionResult:
    mine, theirs = _by_place(used), _by_place(reference)
    shared = sorted(mine.keys() & theirs.keys())
    change = [abs(mine[key] - theirs[key]) / theirs[key] for key in shared]
    shifts, kept = [], 0
    for finding in findings:
        ours = _differences(sample, used, finding)
        exact = _differences(sample, reference, finding)
        spread = float(exact.std(ddof=1)) if len(exact) > 1 else 0.0
        # A latent that is silent on the sample says nothing of its sign.
        if spread > 0:
            kept += bool(np.sign(ours.mean()) == np.sign(exact.mean()))
            shifts.append(float(np.abs(ours - exact).mean()) / spread)
    return PrecisionResult(
        prompts=len(sample),
        tokens=len({key[:2] for key in theirs}),
        firings=len(theirs),
        shared_firings=len(shared) / max(1, len(mine.keys() | theirs.keys())),
        median_change=float(np.median(change)) if change else None,
        findings=len(findings),
        compared=len(shifts),
        same_sign=kept,
        largest_shift=max(shifts, default=None),
    )


def _by_place(block: RowBlock) -> dict[_Key, float]:
    places = zip(block.prompt.tolist(), block.position.tolist(), block.latent.tolist(), strict=True)
    return dict(zip(places, block.activation.tolist(), strict=True))


def _differences(sample: Sequence[TokenisedPrompt], block: RowBlock, finding: Finding) -> NDArray[np.float64]:
    """Return the finding's effect on each scenario of its concept in the sample."""
    own = block.latent == finding.latent
    peaks: dict[int, float] = {}
    for prompt, activation in zip(block.prompt[own].tolist(), block.activation[own].tolist(), strict=True):
        peaks[prompt] = max(peaks.get(prompt, 0.0), activation)
    arms: dict[str, dict[str, float]] = {}
    for item in sample:
        if item.prompt.concept == finding.concept:
            arms.setdefault(item.prompt.scenario, {})[item.prompt.arm] = peaks.get(item.prompt.id, 0.0)
    baseline = _BASELINE[finding.contrast]
    return np.array(
        [values[Arm.CONCEPT] - values[baseline] for _, values in sorted(arms.items()) if baseline in values]
    )
