"""Jobs: batches that do not fit are halved and said so; transcoders are compared at their output."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from audit.capture import jobs as jobs_module
from audit.capture.batches import make_batches
from audit.capture.encoder import Threshold
from audit.capture.fitting import fit_sae, stations
from audit.capture.halving import Say
from audit.capture.jobs import Job, LocalExecutor, capture, plan_jobs, run_halving
from audit.capture.model import LoadedModel
from audit.capture.outputs import splice
from audit.capture.recipe import ControlRecipe, untrained
from audit.capture.runner import Captured, Readable, Station, calibrate, run_batch
from audit.capture.sae import Sae
from audit.capture.sae_sources import load_sae
from audit.capture.shards import PROMPTS_SUFFIX, Shard, content_digest
from audit.capture.sites import Site, SiteKind, read_sites
from audit.errors import EnvironmentProblem, SaeInvalid, ShapeMismatch, SiteNotFound, TooLarge
from audit.records import SaeRecord
from tests.capture.test_runner import SITE, rows_of, tokenised
from tests.capture.test_sae import write_sae

IN, OUT = Site(SiteKind.MLP_IN, 2), Site(SiteKind.MLP_OUT, 2)


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    """Return a small random SAE that fits the small models."""
    return load_sae(str(write_sae(tmp_path / "sae")))


def transcoder(sae: Sae) -> Sae:
    """Return a transcoder with a skip connection and thresholds."""
    generator = torch.Generator().manual_seed(3)
    record = replace(sae.record, name="transcoder", site="layers.2.mlp.input", target="blocks.2.hook_mlp_out", k=None)
    record = replace(record, site=str(IN))
    return replace(
        sae,
        record=record,
        rule=Threshold(torch.rand(len(sae.b_enc), generator=generator)),
        w_skip=torch.randn(32, 32, generator=generator) * 0.1,
        centre=None,
    )


def test_a_batch_beyond_memory_is_halved_until_it_fits(
    small_model: LoadedModel, sae: Sae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are those of the whole batch; each halving is said; nothing is lost."""
    places = (Station(SITE, (sae,), 1e9),)
    plan = plan_jobs(small_model, places, tokenised(small_model), batch_tokens=400)
    (tmp_path / "whole").mkdir()
    (tmp_path / "halved").mkdir()
    capture(plan, LocalExecutor(small_model, places), folder=tmp_path / "whole")
    sizes: list[int] = []

    def limited(model: LoadedModel, stations_read: tuple[Station, ...], batch: Readable) -> Captured:
        sizes.append(len(batch.prompts))
        if len(batch.prompts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run_batch(model, stations_read, batch)

    monkeypatch.setattr(jobs_module, "run_batch", limited)
    said: list[str] = []
    capture(plan, LocalExecutor(small_model, places), folder=tmp_path / "halved", say=said.append)
    assert max(sizes) > 4
    assert len(said) == sum(size > 4 for size in sizes) > 0
    keys = ["prompt", "position", "latent"]
    whole, halved = rows_of(tmp_path / "whole"), rows_of(tmp_path / "halved")
    pd.testing.assert_frame_equal(whole[keys], halved[keys])
    assert (whole["activation"] - halved["activation"]).abs().max() < 1e-4


def test_one_prompt_beyond_memory_is_an_error_and_other_errors_pass(
    small_model: LoadedModel, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single sequence cannot be halved; a RuntimeError of another kind is not taken for lack of memory."""
    (batch,) = make_batches(tokenised(small_model)[:1], batch_tokens=1)

    def full(*_: object) -> Captured:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(jobs_module, "run_batch", full)
    with pytest.raises(TooLarge, match="scenario-0"):
        run_halving(small_model, (Station(SITE, (sae,), 1e9),), batch)

    def broken(*_: object) -> Captured:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(jobs_module, "run_batch", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run_halving(small_model, (Station(SITE, (sae,), 1e9),), batch)


def test_a_real_allocation_failure_is_recognised() -> None:
    """Under a limit of the address space PyTorch refuses an array, and that refusal counts as lack of memory."""
    script = (
        "import resource, torch\n"
        "from audit.capture.halving import is_out_of_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "try:\n    torch.zeros(1 << 36)\n"
        "except (RuntimeError, MemoryError) as error:\n    print(is_out_of_memory(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_transcoder_is_read_at_its_input_and_compared_at_its_output(
    small_model: LoadedModel, sae: Sae, tmp_path: Path
) -> None:
    """Rows come from the MLP's input; moments and errors are those of the MLP's output, at the same positions."""
    fitted = (fit_sae(transcoder(sae), small_model), fit_sae(sae, small_model))
    assert (fitted[0].site, fitted[0].target) == (IN, OUT)
    prompts = tokenised(small_model)
    calibrations = calibrate(small_model, {s for one in fitted for s in one.sites}, prompts, factor=10)
    places = stations(fitted, calibrations)
    capture(
        plan_jobs(small_model, places, prompts, batch_tokens=100), LocalExecutor(small_model, places), folder=tmp_path
    )
    moments = pd.concat([pd.read_parquet(p) for p in tmp_path.glob(f"*{PROMPTS_SUFFIX}")])
    assert set(moments["site"]) == {str(SITE), str(IN), f"{IN}->{OUT}"}
    (batch,) = make_batches(prompts[2:3], batch_tokens=1)
    read = read_sites(small_model.model, small_model.layers, (IN, OUT), batch.inputs(small_model))
    source, target = batch.rows(read[IN]), batch.rows(read[OUT])
    one = fitted[0].sae
    fired = one.encode(source)
    pre = source @ one.w_enc.T + one.b_enc
    assert isinstance(one.rule, Threshold)
    active = torch.where((pre > one.rule.values) & (pre > 0), pre, 0.0)  # noqa: PD011 - a tensor
    rebuilt = active @ one.w_dec + one.b_dec + source @ one.w_skip.T
    torch.testing.assert_close(one.decode(fired, source), rebuilt, atol=1e-5, rtol=1e-4)
    own = moments[moments["prompt"] == 2].set_index("site")
    assert own.loc[f"{IN}->{OUT}", "sae"].tolist() == ["transcoder"]
    assert own.loc[f"{IN}->{OUT}", "error"][0] == pytest.approx(float((target - rebuilt).pow(2).sum()), rel=1e-3)
    assert own.loc[f"{IN}->{OUT}", "sum_squares"] == pytest.approx(float(target.pow(2).sum()), rel=1e-3)
    assert own.loc[str(IN), "sae"].tolist() == []
    rows = rows_of(tmp_path)
    mine = rows[(rows["sae"] == "transcoder") & (rows["prompt"] == 2)]
    assert len(mine) == int((active > 0).sum()) > 0


def test_an_sae_that_awaits_its_scale_gets_it_from_the_text(small_model: LoadedModel, sae: Sae) -> None:
    """Inputs are brought to a mean norm of sqrt(d); the output comes back in the model's own units."""
    waiting = replace(sae, awaits_scale=True)
    prompts = tokenised(small_model)
    calibrations = calibrate(small_model, (SITE,), prompts, factor=1e9)
    with pytest.raises(SaeInvalid, match="small"):
        waiting.encode(calibrations[SITE].sample)
    ready = fit_sae(waiting, small_model).calibrated(calibrations).sae
    sample = calibrations[SITE].sample
    factor = 32**0.5 / float(sample.norm(dim=1).mean())
    fired, plain = ready.encode(sample), sae.encode(sample * factor)
    assert torch.equal(fired.latent, plain.latent)
    torch.testing.assert_close(fired.activation * factor, plain.activation, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ready.decode(fired, sample) * factor, sae.decode(plain, sample), rtol=1e-3, atol=1e-4)
    assert any("estimated" in note for note in ready.record.notes)


def test_the_control_does_not_depend_on_how_the_sae_is_written(small_model: LoadedModel, sae: Sae) -> None:
    """The same instrument behind an input scale has a control that fires alike; one without a centre gets the mean."""
    prompts = tokenised(small_model)
    calibrations = calibrate(small_model, (SITE,), prompts, factor=1e9)
    sample = calibrations[SITE].sample
    scale = 0.02
    written = replace(sae, b_enc=sae.b_enc * scale, b_dec=sae.b_dec * scale, centre=sae.b_dec * scale).scaled(scale)
    fired = []
    for one in (sae, written):
        fitted = fit_sae(one, small_model)
        recipe = ControlRecipe(fitted.typical_count(calibrations), *fitted.centres(calibrations))
        control = untrained(fitted, recipe, seed=1)
        fired.append(control.sae.encode(sample))
    assert torch.equal(fired[0].latent, fired[1].latent)
    torch.testing.assert_close(fired[0].activation, fired[1].activation, atol=1e-4, rtol=1e-4)
    bare = fit_sae(replace(sae, centre=None), small_model)
    assert all(torch.equal(part, calibrations[SITE].mean) for part in bare.centres(calibrations))


def test_a_job_that_never_comes_back_is_an_error(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Whatever an executor drops is told, not missing without a word."""
    places = (Station(SITE, (sae,), 1e9),)

    class Forgetful(LocalExecutor):
        """Runs all jobs but the last."""

        def run(self, jobs: Sequence[Job], *, say: Say) -> Generator[tuple[Job, Shard], None, None]:
            """Yield all but one."""
            yield from super().run(jobs[:-1], say=say)

    with pytest.raises(EnvironmentProblem, match="capture"):
        capture(
            plan_jobs(small_model, places, tokenised(small_model), batch_tokens=64),
            Forgetful(small_model, places),
            folder=tmp_path,
        )


def test_splicing_an_identity_changes_nothing(any_wiring: LoadedModel) -> None:
    """An SAE that gives back what it reads costs no prediction, at every site that it may replace."""
    eye = torch.eye(32)
    prompts = tokenised(any_wiring)[:3]
    for kind in (SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_OUT):
        site = Site(kind, 2)
        record = replace(load_record(any_wiring), site=str(site), target=str(site))
        identity = Sae(
            w_enc=torch.cat([eye, -eye]),
            b_enc=torch.zeros(64),
            w_dec=torch.cat([eye, -eye]),
            b_dec=torch.zeros(32),
            rule=Threshold(torch.zeros(64)),
            record=record,
        )
        spliced = splice(
            any_wiring,
            Station(site, (identity,), 1e9),
            prompts,
            batch_tokens=200,
            ablation=torch.zeros(32),
            seed=0,
        )
        assert max(abs(row.kl) for row in spliced) < 1e-3
        assert max(abs(row.ce_spliced - row.ce) for row in spliced) < 1e-3


def load_record(model: LoadedModel) -> SaeRecord:
    """Return the record of an SAE for a model of width 32."""
    return SaeRecord(
        name=f"identity of {model.record.name}",
        site="resid_post.2",
        target="resid_post.2",
        architecture="relu",
        format="test",
        source="test",
        latents=64,
        k=None,
        width=32,
        target_width=32,
        digest="sha256:0",
        training_tokens=None,
        training_updates=None,
        training_data_digest=None,
        licence="none",
        notes=(),
    )


def test_sites_and_widths_that_do_not_fit_are_refused(small_model: LoadedModel, sae: Sae) -> None:
    """A layer that the model lacks, a width that the site does not have."""
    with pytest.raises(SiteNotFound):
        fit_sae(replace(sae, record=replace(sae.record, site="resid_post.40")), small_model)
    with pytest.raises(ShapeMismatch) as caught:
        fit_sae(replace(sae, record=replace(sae.record, width=48)), small_model)
    assert ("48" in caught.value.expected, "32" in caught.value.found) == (True, True)


def test_the_content_digest_covers_values_not_files(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Equal runs give equal digests in another order of jobs; another threshold or one changed value does not."""
    places = (Station(SITE, (sae,), 1e9),)
    plan = plan_jobs(small_model, places, tokenised(small_model), batch_tokens=64)
    for name, jobs in (("a", plan), ("b", plan[::-1])):
        (tmp_path / name).mkdir()
        capture(jobs, LocalExecutor(small_model, places), folder=tmp_path / name)
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    path = next((tmp_path / "b").glob("*.rows.parquet"))
    frame = pd.read_parquet(path)
    frame.loc[len(frame) // 2, "activation"] *= 1.000001
    frame.to_parquet(path)
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")
