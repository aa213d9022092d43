"""Sites against the hidden states that the model itself reports."""

from __future__ import annotations

import pytest
import torch

from audit.capture.model import LoadedModel
from audit.capture.sites import Site, SiteKind, parse_site, read_site, replaced_site
from audit.errors import SiteNotFound
from tests.capture.conftest import LAYERS


def example(model: LoadedModel) -> dict[str, torch.Tensor]:
    """Return a batch of random tokens."""
    ids = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids.to(model.device), "attention_mask": torch.ones_like(ids).to(model.device)}


@pytest.mark.parametrize("layer", range(LAYERS - 1))
def test_resid_post_is_the_hidden_state(any_model: LoadedModel, layer: int) -> None:
    """`resid_post.L` is what the next layer reads, and `resid_pre.L+1` is the same tensor."""
    inputs = example(any_model)
    with torch.inference_mode():
        states = any_model.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
    post = read_site(any_model.model, any_model.layers, Site(SiteKind.RESID_POST, layer), inputs)
    pre = read_site(any_model.model, any_model.layers, Site(SiteKind.RESID_PRE, layer + 1), inputs)
    torch.testing.assert_close(post, states[layer + 1])
    torch.testing.assert_close(pre, states[layer + 1])


def test_layers_above_the_site_are_not_run(any_model: LoadedModel) -> None:
    """The forward pass ends at the site."""
    ran: list[int] = []
    handles = [
        layer.register_forward_pre_hook(lambda *_, n=n: ran.append(n)) for n, layer in enumerate(any_model.layers)
    ]
    read_site(any_model.model, any_model.layers, Site(SiteKind.RESID_POST, 1), example(any_model))
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_replacing_by_itself_changes_nothing_and_by_zero_something(any_model: LoadedModel) -> None:
    """A replaced site feeds the layers above, and the hook is gone afterwards."""
    inputs, site = example(any_model), Site(SiteKind.RESID_POST, 1)
    with torch.inference_mode():
        clean = any_model.model(**inputs).logits
        with replaced_site(any_model.layers, site, lambda x: x):
            same = any_model.model(**inputs).logits
        with replaced_site(any_model.layers, site, torch.zeros_like):
            other = any_model.model(**inputs).logits
        after = any_model.model(**inputs).logits
    torch.testing.assert_close(same, clean)
    torch.testing.assert_close(after, clean)
    assert (other - clean).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["resid_post.4", "resid_post", "resid_post.-1", "mlp.1", "", "resid_post.1.2"])
def test_unknown_sites_are_refused(name: str) -> None:
    """The error says which layers there are."""
    with pytest.raises(SiteNotFound) as caught:
        parse_site(name, layers=LAYERS)
    assert "0 to 3" in caught.value.expected
