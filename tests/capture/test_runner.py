"""Capture: prompts to shards, the same rows however they are batched, resumed or prefixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from audit.capture.batches import NO_PREFIX, make_batches, share_prefix
from audit.capture.jobs import LocalExecutor, capture, plan_jobs
from audit.capture.model import LoadedModel
from audit.capture.prompts import Prompt, TokenisedPrompt, resolve_format, tokenise
from audit.capture.runner import Station, calibrate
from audit.capture.sae import Sae
from audit.capture.sae_sources import load_sae
from audit.capture.shards import PROMPTS_SUFFIX, ROWS_SUFFIX, content_digest
from audit.capture.sites import Site, SiteKind, read_site, read_sites
from audit.config import PromptFormat
from audit.errors import ConfigError, EvidenceError, PromptTooLong, SuiteError
from probes.schema import Arm, Split
from tests.capture.conftest import save_model
from tests.capture.test_sae import write_sae

SITE = Site(SiteKind.RESID_POST, 2)
TEXTS = [
    "the nurse gave the patient a dose",
    "what should happen next in the ward?",
    "a dose of medicine in the morning, and who decides what the patient gets next?",
    "who decides?",
    "the ward, the nurse, the patient, the dose, the medicine, the morning",
]


def prompt(number: int, text: str) -> Prompt:
    """Return a prompt with a text."""
    return Prompt(number, "s", "d", "c", f"scenario-{number}", Split.DISCOVERY, Arm.CONCEPT, "statement", text)


def tokenised(model: LoadedModel, form: PromptFormat = PromptFormat.CHAT) -> list[TokenisedPrompt]:
    """Return the example prompts as tokens."""
    return [tokenise(model, prompt(n, text), form) for n, text in enumerate(TEXTS * 3)]


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    """Return a small random SAE that fits the small models."""
    return load_sae(str(write_sae(tmp_path / "sae")))


def rows_of(folder: Path) -> pd.DataFrame:
    """Return all rows of a shard folder in one order."""
    parts = [pd.read_parquet(path) for path in sorted(folder.glob(f"*{ROWS_SUFFIX}"))]
    return pd.concat(parts).sort_values(["prompt", "position", "latent"], ignore_index=True)


def run(model: LoadedModel, sae: Sae, folder: Path, *, batch_tokens: int = 64, limit: float = 1e9) -> tuple[str, ...]:
    """Capture the example prompts into a folder."""
    folder.mkdir(exist_ok=True)
    return run_stations(model, (Station(SITE, (sae,), limit),), folder, batch_tokens=batch_tokens)


def run_stations(
    model: LoadedModel, stations: tuple[Station, ...], folder: Path, *, batch_tokens: int = 64
) -> tuple[str, ...]:
    """Capture the example prompts at stations into a folder."""
    jobs = plan_jobs(model, stations, tokenised(model), batch_tokens=batch_tokens)
    return capture(jobs, LocalExecutor(model, stations), folder=folder)


def test_content_is_the_prompts_own_text(small_model: LoadedModel) -> None:
    """Template tokens are not content, the prompt's words are, in chat and plain."""
    for form in PromptFormat:
        for item in tokenised(small_model, form):
            own = "".join(piece for piece, content in zip(item.pieces, item.content, strict=True) if content)
            assert own == item.prompt.text


def test_rows_equal_a_direct_computation(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Each prompt run alone, unpadded, whole, gives the rows that the shards hold."""
    run(small_model, sae, tmp_path / "a")
    expected = []
    for item in tokenised(small_model):
        ids = torch.tensor([item.ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        residual = read_site(small_model.model, small_model.layers, SITE, inputs)[0]
        positions = [n for n, content in enumerate(item.content) if content]
        rows = sae.encode(residual[positions])
        for token, latent, activation in zip(rows.token, rows.latent, rows.activation, strict=True):
            expected.append((item.prompt.id, positions[int(token)], int(latent), float(activation)))
    frame = pd.DataFrame(expected, columns=["prompt", "position", "latent", "activation"])
    found = rows_of(tmp_path / "a")
    pd.testing.assert_frame_equal(
        found[["prompt", "position", "latent"]].astype("int64"), frame[["prompt", "position", "latent"]]
    )
    assert (found["activation"] - frame["activation"]).abs().max() < 1e-4


@pytest.mark.parametrize("batch_tokens", [16, 1000])
def test_batch_size_does_not_change_rows(small_model: LoadedModel, sae: Sae, tmp_path: Path, batch_tokens: int) -> None:
    """Padding and neighbours do not leak into a prompt."""
    run(small_model, sae, tmp_path / "a")
    run(small_model, sae, tmp_path / "b", batch_tokens=batch_tokens)
    first, second = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    keys = ["prompt", "position", "latent"]
    pd.testing.assert_frame_equal(first[keys], second[keys])
    assert (first["activation"] - second["activation"]).abs().max() < 1e-4


def test_the_shared_prefix_changes_no_row(any_model: LoadedModel) -> None:
    """The residual behind a cached prefix is the residual of the whole prompt; models with windows share nothing."""
    prompts = tokenised(any_model)
    prefix = share_prefix(any_model, prompts, upto=SITE)
    # Written down, not computed: what each small configuration says about its layers' windows.
    windowed = {"gemma2", "gemma3_text", "mistral"}
    assert (prefix.length > 0) is (any_model.model.config.model_type not in windowed)
    for short in make_batches(prompts, batch_tokens=64, prefix=prefix):
        got = read_site(any_model.model, any_model.layers, SITE, short.inputs(any_model))
        for row, item in enumerate(short.prompts):
            (whole,) = make_batches([item], batch_tokens=64)
            direct = read_site(any_model.model, any_model.layers, SITE, whole.inputs(any_model))[0]
            length = int(short.mask[row].sum())
            torch.testing.assert_close(got[row, :length], direct[prefix.length :], atol=1e-4, rtol=1e-4)


def test_finished_shards_are_not_run_again(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """A resumed run keeps whole shards, replaces a missing half, and gives the same rows."""
    keys = run(small_model, sae, tmp_path / "a")
    before = rows_of(tmp_path / "a")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    (tmp_path / "a" / f"{keys[0]}{PROMPTS_SUFFIX}").unlink()
    assert run(small_model, sae, tmp_path / "a") == keys
    changed = {p.name for p in (tmp_path / "a").iterdir() if p.stat().st_mtime_ns != times.get(p.name)}
    assert changed == {f"{keys[0]}{PROMPTS_SUFFIX}", f"{keys[0]}{ROWS_SUFFIX}"}
    pd.testing.assert_frame_equal(rows_of(tmp_path / "a"), before)


def test_outliers_are_excluded_and_counted(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Positions above the limit give no rows and appear in the count."""
    limit = calibrate(small_model, (SITE,), tokenised(small_model), factor=1.1)[SITE].outlier_limit
    run(small_model, sae, tmp_path / "a", limit=limit)
    moments = pd.concat([pd.read_parquet(p) for p in (tmp_path / "a").glob(f"*{PROMPTS_SUFFIX}")])
    assert 0 < moments["outliers"].sum() < moments["content"].sum()
    assert (moments["content"] == moments["kept"] + moments["outliers"]).all()
    kept = rows_of(tmp_path / "a").groupby("prompt")["position"].nunique()
    assert (kept <= moments.set_index("prompt")["kept"].reindex(kept.index)).all()


def test_a_prompt_without_any_kept_token_is_an_error(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """A limit that leaves nothing of a scenario is told with its name, not averaged over."""
    with pytest.raises(EvidenceError, match="scenario-"):
        run(small_model, sae, tmp_path / "a", limit=1e-6)
    assert not rows_exist(tmp_path / "a")


def test_moments_give_the_variance(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Squared norms, means and errors in the shard are those of the residual and its reconstruction."""
    run(small_model, sae, tmp_path / "a")
    moments = pd.concat([pd.read_parquet(p) for p in (tmp_path / "a").glob(f"*{PROMPTS_SUFFIX}")]).set_index("prompt")
    item = tokenised(small_model)[2]
    (batch,) = make_batches([item], batch_tokens=64)
    residual = read_site(small_model.model, small_model.layers, SITE, batch.inputs(small_model))[batch.content]
    rebuilt = sae.decode(sae.encode(residual), residual)
    row = moments.loc[2]
    assert row["sum_squares"] == pytest.approx(float(residual.pow(2).sum()), rel=1e-4)
    assert row["error"][0] == pytest.approx(float((residual - rebuilt).pow(2).sum()), rel=1e-3)
    torch.testing.assert_close(torch.tensor(row["mean"].copy()), residual.mean(0), atol=1e-5, rtol=1e-4)


def test_several_sites_are_read_in_one_pass(any_model: LoadedModel) -> None:
    """Whatever the order in which they are asked for, each site gives what reading it alone gives."""
    (batch,) = make_batches(tokenised(any_model)[:1], batch_tokens=64)
    sites = [Site(SiteKind.RESID_POST, 2), Site(SiteKind.RESID_PRE, 1), Site(SiteKind.RESID_POST, 0)]
    together = read_sites(any_model.model, any_model.layers, sites, batch.inputs(any_model))
    assert set(together) == set(sites)
    for site in sites:
        alone = read_site(any_model.model, any_model.layers, site, batch.inputs(any_model))
        torch.testing.assert_close(together[site], alone, atol=0, rtol=0)


def test_sites_keep_their_rows_and_limits_apart(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Two stations give the rows and the counts that each gives alone; an outlier at one is none at the other."""
    low = Site(SiteKind.RESID_POST, 1)
    other = load_sae(str(write_sae(tmp_path / "other", site=str(low), name="other")))
    limit = calibrate(small_model, (low,), tokenised(small_model), factor=1.1)[low].outlier_limit
    stations = (Station(SITE, (sae,), 1e9), Station(low, (other,), limit))
    (tmp_path / "both").mkdir()
    run_stations(small_model, stations, tmp_path / "both")
    run(small_model, sae, tmp_path / "alone")
    both = rows_of(tmp_path / "both")
    first = both[both["sae"] == sae.record.name].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, rows_of(tmp_path / "alone"))
    moments = pd.concat([pd.read_parquet(p) for p in (tmp_path / "both").glob(f"*{PROMPTS_SUFFIX}")])
    outliers = moments.groupby("site")["outliers"].sum()
    assert outliers[str(SITE)] == 0
    assert outliers[str(low)] > 0


def test_nan_activations_stop_the_run(tmp_path: Path, sae: Sae) -> None:
    """A damaged model gives one clear error, not evidence."""
    from audit.capture.model import load_model
    from audit.config import ModelConfig

    model = load_model(ModelConfig(source=str(save_model(tmp_path / "m", "llama"))))
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(EvidenceError, match="activations"):
        run(model, sae, tmp_path / "a")
    assert not rows_exist(tmp_path / "a")


def rows_exist(folder: Path) -> bool:
    """Tell whether any shard was written."""
    return any(folder.glob(f"*{ROWS_SUFFIX}"))


def test_batches_do_not_depend_on_order(small_model: LoadedModel) -> None:
    """The grouping is a function of the prompts."""
    prompts = tokenised(small_model)
    first = [[p.prompt.id for p in b.prompts] for b in make_batches(prompts, batch_tokens=64, prefix=NO_PREFIX)]
    second = [[p.prompt.id for p in b.prompts] for b in make_batches(prompts[::-1], batch_tokens=64, prefix=NO_PREFIX)]
    assert first == second


def test_a_prompt_beyond_the_context_is_refused(tmp_path: Path) -> None:
    """Nothing is cut silently."""
    from audit.capture.model import load_model
    from audit.config import ModelConfig

    model = load_model(ModelConfig(source=str(save_model(tmp_path / "m", "gpt2"))))
    with pytest.raises(PromptTooLong):
        tokenise(model, prompt(0, "dose " * 400), PromptFormat.PLAIN)


def test_chat_needs_a_template(tmp_path: Path) -> None:
    """Asking for chat without a template is an error; not asking falls back to plain."""
    from audit.capture.model import load_model
    from audit.config import ModelConfig

    model = load_model(ModelConfig(source=str(save_model(tmp_path / "m", "llama", chat=False))))
    assert resolve_format(model, None) is PromptFormat.PLAIN
    with pytest.raises(ConfigError):
        resolve_format(model, PromptFormat.CHAT)


def test_a_text_that_the_template_changes_is_refused(small_model: LoadedModel) -> None:
    """If a template trims or rewrites the text, positions would be wrong; the scenario is named."""
    from dataclasses import replace

    template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    tokenizer = small_model.tokenizer
    kept = tokenizer.chat_template
    tokenizer.chat_template = template
    try:
        with pytest.raises(SuiteError):
            tokenise(replace(small_model), prompt(0, "the nurse"), PromptFormat.CHAT)
    finally:
        tokenizer.chat_template = kept


def neurons_of(folder: Path, site: Site = SITE) -> pd.Series[Any]:
    """Return the neurons' maxima that the shards of a folder hold for a site, by prompt."""
    parts = [pd.read_parquet(path, columns=["site", "prompt", "neurons"]) for path in folder.glob(f"*{PROMPTS_SUFFIX}")]
    table = pd.concat(parts)
    return table[table["site"] == str(site)].set_index("prompt")["neurons"].sort_index()


@pytest.mark.parametrize("site", [SITE, Site(SiteKind.RESID_PRE, 2)])
def test_neurons_are_read_over_the_positions_of_the_station(
    small_model: LoadedModel, sae: Sae, tmp_path: Path, site: Site
) -> None:
    """Largest values over the site's kept positions of each prompt run alone, whether neurons lie behind it or not."""
    neurons = Site(SiteKind.MLP_ACT, 2)
    (limit,) = calibrate(small_model, (site,), tokenised(small_model), factor=1.1).values()
    run_stations(small_model, (Station(site, (sae,), limit.outlier_limit, {}, neurons),), tmp_path)
    found = neurons_of(tmp_path, site)
    excluded = 0
    for item in tokenised(small_model):
        ids = torch.tensor([item.ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        read = read_sites(small_model.model, small_model.layers, (site, neurons), inputs)
        content = torch.tensor(item.content)
        kept = content & (read[site][0].norm(dim=-1) <= limit.outlier_limit)
        excluded += int(content.sum() - kept.sum())
        values = torch.from_numpy(found[item.id].copy())
        assert values.shape == (64,)
        torch.testing.assert_close(values, read[neurons][0][kept].amax(0), atol=1e-5, rtol=1e-4)
    assert excluded > 0


def test_neurons_change_nothing_else_and_name_other_shards(small_model: LoadedModel, sae: Sae, tmp_path: Path) -> None:
    """Rows are the same with and without; the names of the shards and their digest are not."""
    keys = {}
    for name, neurons in (("without", None), ("with", Site(SiteKind.MLP_ACT, 2)), ("other", Site(SiteKind.MLP_ACT, 1))):
        (tmp_path / name).mkdir()
        keys[name] = set(run_stations(small_model, (Station(SITE, (sae,), 1e9, {}, neurons),), tmp_path / name))
    pd.testing.assert_frame_equal(rows_of(tmp_path / "with"), rows_of(tmp_path / "without"))
    assert not keys["with"] & keys["without"]
    assert not keys["with"] & keys["other"]
    assert {len(values) for values in neurons_of(tmp_path / "without")} == {0}
    before = content_digest(tmp_path / "with")
    assert len({before, content_digest(tmp_path / "without"), content_digest(tmp_path / "other")}) == 3
    path = next((tmp_path / "with").glob(f"*{PROMPTS_SUFFIX}"))
    table = pd.read_parquet(path)
    changed = [values.copy() for values in table["neurons"]]
    changed[0][5] += 1e-3
    table.assign(neurons=changed).to_parquet(path, index=False)
    assert content_digest(tmp_path / "with") != before


@pytest.mark.parametrize("batch_tokens", [16, 1000])
def test_neurons_do_not_depend_on_batches(
    small_model: LoadedModel, sae: Sae, tmp_path: Path, batch_tokens: int
) -> None:
    """Packed with others or alone, a prompt's neurons have the same largest values."""
    places = (Station(SITE, (sae,), 1e9, {}, Site(SiteKind.MLP_ACT, 2)),)
    for name, size in (("a", 64), ("b", batch_tokens)):
        (tmp_path / name).mkdir()
        run_stations(small_model, places, tmp_path / name, batch_tokens=size)
    first, second = (np.stack(list(neurons_of(tmp_path / name))) for name in "ab")
    np.testing.assert_allclose(first, second, atol=1e-4)
