"""Trained controls: which instrument each belongs to, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from audit import controls
from audit.capture.fitting import Fitted, fit_sae
from audit.capture.formats.own import CARD_FILE
from audit.capture.model import LoadedModel, load_model
from audit.capture.sae_sources import MAIN, SHIPPED, SHIPPED_CONTROLS, load_sae, locate_sae
from audit.capture.sites import Site, SiteKind
from audit.config import ModelConfig
from audit.controls import FrozenControl, load_controls
from audit.errors import ConfigError, SaeInvalid
from tests.capture.conftest import save_model
from tests.capture.test_sae import write_sae

(FROZEN,) = SHIPPED_CONTROLS


@pytest.fixture(scope="module")
def default_model() -> LoadedModel:
    """Return the model that the shipped SAEs read."""
    return load_model(ModelConfig())


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return a llama of width 32 with four layers."""
    return load_model(ModelConfig(source=str(save_model(tmp_path_factory.mktemp("model") / "tiny", "llama"))))


def fitted(model: LoadedModel, *sources: str) -> list[Fitted]:
    """Return SAEs at their places."""
    return [fit_sae(load_sae(source), model) for source in sources]


def names(found: Mapping[str, FrozenControl]) -> dict[str, str]:
    """Return the name of each instrument's control."""
    return {instrument: control.fitted.sae.record.name for instrument, control in found.items()}


def made(folder: Path, name: str, site: str = "resid_post.2") -> str:
    """Write a small SAE and return its source."""
    return str(write_sae(folder / name, site=site, name=name))


def test_the_shipped_control_is_the_main_instruments(default_model: LoadedModel) -> None:
    """It has the main SAE's site, target, shape and k; the second instrument has none, and none is asked for by ()."""
    instruments = fitted(default_model, *SHIPPED)
    found = load_controls(("default",), instruments, default_model)
    assert names(found) == {MAIN: FROZEN}
    (one,) = found.values()
    mine, theirs = instruments[0], one.fitted
    assert one.source == FROZEN
    assert (mine.site, mine.target) == (theirs.site, theirs.target)
    assert mine.sae.w_dec.shape == theirs.sae.w_dec.shape
    assert mine.sae.record.k == theirs.sae.record.k
    assert load_controls((), instruments, default_model) == {}


def test_the_shipped_control_is_left_out_where_it_does_not_belong(
    default_model: LoadedModel, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    """At another site, beside a model of another width or other weights, and where it is an instrument itself."""
    assert load_controls(("default",), fitted(default_model, SHIPPED[1]), default_model) == {}
    assert load_controls(("default",), fitted(tiny_model, made(tmp_path, "a")), tiny_model) == {}
    assert load_controls(("default",), fitted(default_model, MAIN, FROZEN), default_model) == {}
    tuned = replace(default_model, record=replace(default_model.record, digest="sha256:other"))
    assert load_controls(("default",), fitted(default_model, MAIN), tuned) == {}
    assert names(load_controls((FROZEN,), fitted(default_model, MAIN), tuned)) == {MAIN: FROZEN}


def test_a_control_stands_beside_all_that_it_fits(tiny_model: LoadedModel, tmp_path: Path) -> None:
    """Two instruments at one site share it, under whatever name the site was published; a third has its own or none."""
    instruments = fitted(tiny_model, made(tmp_path, "a"), made(tmp_path, "b"), made(tmp_path, "c", "resid_post.1"))
    sources = (made(tmp_path, "frozen", "blocks.2.hook_resid_post"), made(tmp_path, "other", "resid_post.1"))
    assert names(load_controls(sources[:1], instruments, tiny_model)) == {"a": "frozen", "b": "frozen"}
    assert names(load_controls(sources, instruments, tiny_model)) == {"a": "frozen", "b": "frozen", "c": "other"}


def with_latents(source: str, latents: int, folder: Path) -> str:
    """Return a copy of a shipped SAE whose card promises another number of latents."""
    shutil.copytree(locate_sae(source), folder)
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | {"latents": latents}))
    return str(folder)


@pytest.mark.parametrize("site", ["resid_post.1", "resid_pre.2", "resid_post.40", "mlp_out.2"])
def test_a_named_control_without_an_instrument_is_refused(tiny_model: LoadedModel, tmp_path: Path, site: str) -> None:
    """Both places are named, with the numbers of latents."""
    with pytest.raises(ConfigError) as caught:
        load_controls((made(tmp_path, "frozen", site),), fitted(tiny_model, made(tmp_path, "a")), tiny_model)
    assert "sae.controls" in caught.value.item
    assert site in caught.value.expected
    assert "a: " in caught.value.found
    assert "resid_post.2" in caught.value.found


def test_a_control_of_another_size_is_refused(tiny_model: LoadedModel, tmp_path: Path) -> None:
    """The shipped one, named, has more latents than the small SAE at a site of the same name."""
    instruments = fitted(tiny_model, made(tmp_path, "a"))
    place = Site(SiteKind.RESID_POST, 15)
    moved = replace(instruments[0], site=place, target=place)
    with pytest.raises(ConfigError, match="4608 latents of width 576"):
        load_controls((FROZEN,), [moved], tiny_model)


def test_names_and_places_are_taken_once(tiny_model: LoadedModel, tmp_path: Path) -> None:
    """An instrument is not its own control, a control is not named twice, an instrument has not two."""
    source = made(tmp_path, "a")
    instruments = fitted(tiny_model, source)
    one, two = made(tmp_path, "one"), made(tmp_path, "two")
    for sources, told in (((source,), "a twice"), ((one, one), "one twice"), ((one, two), "two and one for a")):
        with pytest.raises(ConfigError) as caught:
            load_controls(sources, instruments, tiny_model)
        assert caught.value.found == told


def test_a_damaged_control_is_an_error_even_by_default(
    default_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not those of the card, and a card that promises another size: never left out in silence."""
    changed = tmp_path / "changed"
    shutil.copytree(locate_sae(FROZEN), changed)
    weights = changed / "sae.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for source in (str(changed), with_latents(FROZEN, 4607, tmp_path / "resized")):
        monkeypatch.setattr(controls, "SHIPPED_CONTROLS", (source,))
        with pytest.raises(SaeInvalid):
            load_controls(("default",), fitted(default_model, MAIN), default_model)
