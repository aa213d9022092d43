"""The SAEs that the package ships: whole, certified for the shipped model, within their budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from audit.capture.formats.own import CARD_FILE
from audit.capture.sae import random_decoder
from audit.capture.sae_sources import MAIN, SHIPPED, load_sae, locate_sae
from audit.certification import CERTIFICATE_FILE
from audit.records import Certificate, parse_record

FOLDER = locate_sae(MAIN).parent
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
SEED, FROZEN = f"{MAIN}.seed-1", f"{MAIN}.frozen-decoder"
MOST_BYTES = 45_000_000
FIRST_VALUES = [-0.0054084, -0.0516963, 0.0358188, 0.0081006]


def certificate_of(name: str) -> Certificate:
    """Return the certificate that lies beside the weights."""
    path = locate_sae(name) / CERTIFICATE_FILE
    record: Certificate = parse_record(Certificate, json.loads(path.read_text()), where=name)
    return record


def card_of(name: str) -> dict[str, object]:
    """Return the training card."""
    card = json.loads((locate_sae(name) / CARD_FILE).read_text())
    return dict(card)


def test_the_set_is_what_the_docs_say() -> None:
    """Two instruments at two sites, a second seed of the main one, and the frozen-decoder control."""
    assert sorted([*SHIPPED, SEED, FROZEN]) == NAMES
    sites = [load_sae(name).record.site for name in SHIPPED]
    assert len(set(sites)) == len(sites)
    assert load_sae(SEED).record.site == load_sae(FROZEN).record.site == load_sae(MAIN).record.site


def test_all_files_stay_within_the_budget() -> None:
    """45 MB for everything that is installed with the package."""
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_and_says_where_it_comes_from(name: str) -> None:
    """It loads by name, the folder has its name, and the card names data, steps, seed and sources."""
    sae, card = load_sae(name), card_of(name)
    assert (sae.record.name, sae.record.latents, sae.record.width, sae.record.k) == (name, 4608, 576, 32)
    training = card["training"]
    assert isinstance(training, dict)
    assert training["updates"] == training["steps"] * training["recipe"]["batch"]
    assert training["updates"] >= (20_000_000 if name == MAIN else 8_000_000)
    assert training["tokens"] >= 1_000_000
    assert 0.2 <= training["harvested"]["chat_share"] <= 0.3
    assert training["harvested"]["register_shares"]["dictionary"] <= 0.06
    assert training["corpus_sources"]
    assert not [s for s in training["corpus_sources"] if s["licence"].lower().startswith("unverified")]
    assert training["curve"][-1]["updates"] == training["updates"]


def test_the_frozen_decoder_is_drawn_again_and_not_stored() -> None:
    """Its file has no decoder; what is loaded is the seed's."""
    sae, card = load_sae(FROZEN), card_of(FROZEN)
    assert (locate_sae(FROZEN) / "sae.safetensors").stat().st_size < 6_000_000
    decoder = random_decoder(4608, 576, seed=int(str(card["decoder_seed"])))
    torch.testing.assert_close(sae.w_dec, decoder, atol=0, rtol=0)
    # Drawn the same on every machine: a few values, as they were when it was trained.
    expected = torch.tensor(FIRST_VALUES)
    torch.testing.assert_close(decoder[0, :4], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_each_certificate_speaks_of_these_weights(name: str) -> None:
    """Made on held-out documents of the training text, for the digest that loading gives."""
    certificate = certificate_of(name)
    assert certificate.sae_digest == load_sae(name).record.digest
    assert certificate.text_digest == load_sae(name).record.training_data_digest
    assert "held out" in certificate.selection
    assert certificate.row("plain") is not None
    assert certificate.row("chat") is not None
    assert certificate.tokens >= 20_000
    assert certificate.curve


@pytest.mark.parametrize(("name", "plain_fvu"), [(SHIPPED[0], 0.17), (SHIPPED[1], 0.19)])
def test_the_instruments_reach_what_the_docs_claim(name: str, plain_fvu: float) -> None:
    """FVU on plain text and at most 0.20 in chat format, few dead latents, about 32 active."""
    certificate = certificate_of(name)
    whole, plain, chat = (certificate.row(scope) for scope in ("all", "plain", "chat"))
    assert whole is not None
    assert plain is not None
    assert chat is not None
    assert plain.fvu <= plain_fvu
    assert chat.fvu <= 0.20
    assert whole.dead_share is not None
    assert whole.dead_share <= 0.01
    assert whole.l0_mean == pytest.approx(32, abs=0.5)
    assert whole.delta_ce is not None
    assert whole.delta_ce.value < 0.25


def test_the_second_seed_stands_in_the_main_certificate() -> None:
    """The share of latents found again, against the very weights that are shipped."""
    stability = certificate_of(MAIN).stability
    assert stability is not None
    assert stability.other_digest == load_sae(SEED).record.digest
    assert len(stability.cosines) == 4608
    found = sum(cosine >= stability.threshold for cosine in stability.cosines) / 4608
    assert found == pytest.approx(stability.share_decoder, abs=0.002)
    assert stability.random_share < stability.share_both <= stability.share_decoder


def test_the_frozen_decoder_is_the_worse_instrument() -> None:
    """A control that reconstructs as well as the trained SAE would say that training the decoder is worth nothing."""
    main, frozen = certificate_of(MAIN).row("all"), certificate_of(FROZEN).row("all")
    assert main is not None
    assert frozen is not None
    assert main.fvu < frozen.fvu


def test_no_path_of_the_training_machine_is_told() -> None:
    """Cards and certificates are handed to strangers."""
    for path in [*FOLDER.rglob("*.json")]:
        assert str(Path.home()) not in path.read_text()
