"""SAEs of the hub, from a server on this machine that speaks its interface."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from audit.capture import hub
from audit.capture.hub import HubAddress, bring, find_cached, parse_address
from audit.capture.sae_sources import load_sae, locate_sae
from audit.errors import EnvironmentProblem, SaeInvalid
from tests.capture.formats.hub_server import COMMIT, GATED, HubServer, serving
from tests.capture.formats.oracles import LATENTS, WIDTH, assert_same, sae_lens, tokens
from tests.capture.formats.test_gemma_scope import first
from tests.capture.formats.test_llama_scope import first as llama_scope
from tests.capture.formats.test_llama_scope import weights as llama_weights
from tests.capture.formats.test_saelens import old_config, old_weights, written
from tests.capture.test_sae import write_sae

REPO = "google/gemma-scope-2b-pt-res"
PATH = "layer_12/width_16k/average_l0_71"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return repositories with several SAEs each."""
    root = tmp_path_factory.mktemp("hub")
    for path in (PATH, "layer_12/width_16k/average_l0_20", "layer_3/width_16k/average_l0_9"):
        first(root / "google", REPO.partition("/")[2], path)
    for name in ("notes.md", "examples.safetensors", "eval_results.json", "checkpoints/ae_0.pt"):
        path = root / REPO / PATH / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no part of an SAE")
    written(root / "owner" / "one", old_config(), old_weights())
    (root / "owner" / "one" / "checkpoint").mkdir()
    (root / "owner" / "one" / "checkpoint" / "optimiser.pt").write_bytes(b"large")
    shards = root / "owner" / "model" / "shards"
    shards.mkdir(parents=True)
    for folder, name in ((shards.parent, "config.json"), (shards, "a.safetensors"), (shards, "b.safetensors")):
        (folder / name).write_text("{}")
    for number in range(1, 4):
        (shards.parent / f"model-0000{number}-of-00003.safetensors").write_bytes(b"large")
    (write_sae(root / "owner" / "own") / "certificate.json").write_text("{}")
    llama_scope(root / "owner" / "llama" / "L15R-8x", llama_weights())
    return root


@pytest.fixture
def server(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Run the server and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
    with serving(files) as running:
        yield running


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("a/b", HubAddress("a/b", "", None)),
        ("a/b:c/d@e", HubAddress("a/b", "c/d", "e")),
        ("a/b@refs/pr/1", HubAddress("a/b", "", "refs/pr/1")),
        ("a/b:/c/", HubAddress("a/b", "c", None)),
        ("a.b/c-d_e:f.pt", HubAddress("a.b/c-d_e", "f.pt", None)),
        ("a", None),
        ("a/b/c", None),
        ("/a/b", None),
        ("./a", None),
        ("../a", None),
        ("a/b:../c", None),
        ("a b/c", None),
    ],
)
def test_addresses(source: str, address: HubAddress | None) -> None:
    """`owner/repository:path@revision`, and nothing that looks like a path."""
    assert parse_address(source) == address
    if address is not None:
        assert parse_address(str(address)) == address


def test_only_the_files_of_the_sae_are_brought(server: HubServer) -> None:
    """One SAE of many, without what no format reads; the address has the commit."""
    copy = bring(HubAddress(REPO, PATH, "main"), endpoint=server.url)
    assert server.asked == [f"{PATH}/params.npz"]
    assert copy.address == HubAddress(REPO, PATH, COMMIT)
    assert [entry.name for entry in copy.path.iterdir()] == ["params.npz"]


def test_a_repository_that_is_one_sae(server: HubServer) -> None:
    """Without a path: the files at its root, not the folders below."""
    copy = bring(HubAddress("owner/one", "", None), endpoint=server.url)
    assert sorted(server.asked) == ["cfg.json", "sae_weights.safetensors"]
    assert load_sae(str(copy.path)).record.name == "one"


def test_a_single_file_comes_with_the_configuration_beside_it(server: HubServer) -> None:
    """And with nothing else."""
    copy = bring(HubAddress("owner/one", "sae_weights.safetensors", None), endpoint=server.url)
    assert sorted(server.asked) == ["cfg.json", "sae_weights.safetensors"]
    assert copy.path.is_file()
    assert load_sae(str(copy.path)).record.format == "SAELens"


def test_weights_below_their_configuration(server: HubServer) -> None:
    """Llama Scope keeps them in a folder of their own."""
    copy = bring(HubAddress("owner/llama", "L15R-8x", None), endpoint=server.url)
    assert sorted(server.asked) == ["L15R-8x/checkpoints/final.safetensors", "L15R-8x/hyperparams.json"]
    assert load_sae(str(copy.path)).record.name == "llama/L15R-8x"


@pytest.mark.parametrize(
    ("path", "named"),
    [("", "owner/model:model-00001-of-00003.safetensors"), ("shards", "owner/model:shards/a.safetensors")],
)
def test_several_weights_in_no_known_layout_are_not_downloaded(path: str, named: str, server: HubServer) -> None:
    """A model's repository, with its configuration: nothing of its hundred GB; one of its files can be named."""
    with pytest.raises(SaeInvalid) as caught:
        bring(HubAddress("owner/model", path, None), endpoint=server.url)
    assert named in caught.value.hint
    assert server.asked == []
    file = named.partition(":")[2]
    assert bring(HubAddress("owner/model", file, None), endpoint=server.url).path.is_file()
    assert file in server.asked


def test_a_publishers_certificate_is_not_brought(server: HubServer) -> None:
    """It is unsigned: a report would print it as a certificate of this project."""
    copy = bring(HubAddress("owner/own", "", None), endpoint=server.url)
    assert sorted(server.asked) == ["card.json", "sae.safetensors"]
    assert load_sae(str(copy.path)).record.format == "affidavit"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (HubAddress("owner/nothing", "", None), ["no repository 'owner/nothing'", "HF_TOKEN"]),
        (HubAddress(REPO, PATH, "v9"), ["no revision 'v9'"]),
        (HubAddress(REPO, "layer_99", None), ["no such path"]),
        (HubAddress(REPO, "layer_12/width_16k", None), ["average_l0_20/", "average_l0_71/", "the path of one SAE"]),
        (HubAddress(REPO, "", None), ["layer_12/", "layer_3/"]),
        (HubAddress("a--b/c", "", None), ["a--b/c"]),
    ],
)
def test_what_the_hub_does_not_have(address: HubAddress, words: list[str], server: HubServer) -> None:
    """Repository, revision or path: one error that says which, and what there is instead."""
    with pytest.raises(SaeInvalid) as caught:
        bring(address, endpoint=server.url)
    for word in words:
        assert word in str(caught.value)
    assert server.asked == []


def test_a_gated_repository(server: HubServer) -> None:
    """Access has to be asked for: no fault of the name."""
    with pytest.raises(EnvironmentProblem, match="gated") as caught:
        bring(HubAddress(GATED, "", None), endpoint=server.url)
    assert "agreement" in str(caught.value)


def test_without_a_network_the_cache_serves(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is needed from the hub; what was never brought is an error with what to do."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    address = HubAddress(REPO, PATH, None)
    with serving(files) as running:
        online = bring(address, endpoint=running.url)
        closed = running.url
    assert bring(address, endpoint=closed) == online == find_cached(address)
    assert bring(online.address, endpoint=closed) == online
    assert find_cached(HubAddress(REPO, "layer_3/width_16k/average_l0_9", None)) is None
    with pytest.raises(EnvironmentProblem, match="layer_3") as caught:
        bring(HubAddress(REPO, "layer_3/width_16k/average_l0_9", None), endpoint=closed)
    assert "Check the network" in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem) as caught:
        bring(HubAddress("owner/one", "", None))
    assert "offline mode is on" in str(caught.value)


def test_a_source_on_the_hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record names repository, path and commit, and the site behind them."""
    real = hub.bring
    monkeypatch.setattr(hub, "bring", lambda address: real(address, endpoint=server.url))
    sae = load_sae(f"{REPO}:{PATH}@main")
    assert sae.record.source == f"{REPO}:{PATH}@{COMMIT}"
    assert sae.record.name == f"gemma-scope-2b-pt-res/{PATH}"
    assert sae.record.site == "resid_post.12"
    stated = load_sae(f"{REPO}:{PATH}#resid_post.12")
    assert stated.record.source == f"{REPO}:{PATH}@{COMMIT}#resid_post.12"
    assert stated.record.digest == sae.record.digest
    with pytest.raises(SaeInvalid, match=f"{COMMIT}#resid_post.3"):
        load_sae(f"{REPO}:{PATH}#resid_post.3")
    assert locate_sae(f"{REPO}:{PATH}") == find_cached(HubAddress(REPO, PATH, None)).path  # type: ignore[union-attr]
    assert not locate_sae("owner/never-brought").exists()


def test_a_local_folder_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is a path here is never asked for elsewhere."""
    written(tmp_path / "owner" / "one", old_config(), old_weights())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "bring", lambda _: pytest.fail("asked the hub"))
    assert load_sae("owner/one").record.source == "one"


_LOAD = """
import sys
from audit.capture.sae_sources import load_sae
for source in sys.argv[1:]:
    record = load_sae(source).record
    print(record.source, record.name, record.site, record.target, record.architecture, record.digest, sep="|")
    print(*record.notes, sep="|")
"""


def _in_a_process(home: Path, endpoint: str, *sources: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable, "-W", "ignore", "-c", _LOAD, *sources]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_environments_hub_is_used(files: Path, tmp_path: Path) -> None:
    """`HF_ENDPOINT` and `HF_HOME` as people set them; then offline, in another process."""
    with serving(files) as running:
        online = _in_a_process(tmp_path, running.url, f"{REPO}:{PATH}")
    assert online.returncode == 0, online.stderr
    assert online.stdout.startswith(f"{REPO}:{PATH}@{COMMIT}|")
    offline = _in_a_process(tmp_path, running.url, f"{REPO}:{PATH}", HF_HUB_OFFLINE="1")
    assert offline.stdout == online.stdout


def test_releases_of_saelens(tmp_path: Path) -> None:
    """Real names of its directory, with small files behind them, read by SAELens and converted here.

    gpt2-small-res-jb is a folder of SAELens for a centred model; the other is a layout that only SAELens reads.
    """
    root = tmp_path / "hub"
    jb = root / "jbloom" / "GPT2-Small-SAEs-Reformatted" / "blocks.0.hook_resid_pre"
    written(jb, old_config(hook_name="blocks.0.hook_resid_pre"), old_weights())
    qwen = root / "mwhanna" / "qwen3-4b-transcoders"
    qwen.mkdir(parents=True)
    (qwen / "config.yaml").write_text("model_name: Qwen/Qwen3-4B\n")
    sizes = {"d_model": WIDTH, "d_feature": LATENTS, "batch_size": 128}
    (qwen / "wandb-config.yaml").write_text(json.dumps({name: {"value": size} for name, size in sizes.items()}))
    weights = old_weights()
    save_file({**weights, "W_enc": weights["W_enc"].T.contiguous()}, qwen / "layer_0.safetensors")
    with serving(root) as running:
        done = _in_a_process(
            tmp_path / "home",
            running.url,
            "saelens:gpt2-small-res-jb/blocks.0.hook_resid_pre",
            "saelens:mwhanna-qwen3-4b-transcoders/layer_0",
        )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert lines[0][:5] == [
        "saelens:gpt2-small-res-jb/blocks.0.hook_resid_pre",
        "gpt2-small-res-jb/blocks.0.hook_resid_pre",
        "resid_pre.0",
        "resid_pre.0",
        "standard",
    ]
    assert lines[1][0] == "read by SAELens from jbloom/GPT2-Small-SAEs-Reformatted: blocks.0.hook_resid_pre"
    assert any("centred" in note for note in lines[1])
    assert lines[2][2:5] == ["mlp_in.0", "mlp_out.0", "standard, transcoder"]


def test_what_saelens_returns_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The activations are those of the object that SAELens returned, and its digest covers weights and settings."""
    folder = written(tmp_path / "sae", old_config(hook_name="blocks.0.hook_resid_pre"), old_weights())
    theirs = sae_lens().SAE.load_from_disk(folder)
    monkeypatch.setattr(sae_lens().SAE, "from_pretrained", lambda *_, **__: sae_lens().SAE.load_from_disk(folder))
    source = "saelens:gpt2-small-res-jb/blocks.0.hook_resid_pre"
    ours = load_sae(source)
    with torch.no_grad():
        assert_same(ours, tokens(), theirs.encode(tokens()), theirs(tokens()))
    digest = ours.record.digest
    assert load_sae(source).record.digest == digest
    config = old_config(hook_name="blocks.0.hook_resid_pre", apply_b_dec_to_input=False)
    (folder / "cfg.json").write_text(json.dumps(config))
    assert load_sae(source).record.digest != digest


@pytest.mark.parametrize(
    ("error", "kind", "word"),
    [
        (OSError("no route"), EnvironmentProblem, "no route"),
        (ValueError("Unexpected architecture"), SaeInvalid, "Unexpected architecture"),
        (pickle.UnpicklingError("GLOBAL posix.system"), SaeInvalid, "wants to run code"),
    ],
)
def test_saelens_errors_are_ours(
    error: Exception, kind: type[Exception], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SAELens raises becomes one clear error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sae_lens().SAE, "from_pretrained", fail)
    with pytest.raises(kind) as caught:
        load_sae("saelens:gpt2-small-res-jb/blocks.0.hook_resid_pre")
    assert word in str(caught.value)


def test_unknown_releases() -> None:
    """Near names are offered; cross-layer transcoders, which SAELens sums up, are refused."""
    sae_lens()
    for source, word in (
        ("saelens:gpt2-small-res-jb/blocks.99.hook_resid_pre", "blocks.9.hook_resid_pre"),
        ("saelens:gpt2-small-res-jbb/blocks.0.hook_resid_pre", "gpt2-small-res-jb"),
        ("saelens:mntss-gemma-2-2b-2.5m-clt-as-per-layer/layer_0", "cross-layer"),
    ):
        with pytest.raises(SaeInvalid, match=source) as caught:
            load_sae(source)
        assert word in str(caught.value)


def test_without_saelens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "sae_lens.loading.pretrained_saes_directory", None)
    with pytest.raises(EnvironmentProblem) as caught:
        load_sae("saelens:gpt2-small-res-jb/blocks.0.hook_resid_pre")
    assert 'pip install "affidavit[saelens]"' in caught.value.hint
