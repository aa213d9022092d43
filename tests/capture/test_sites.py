"""Sites against the hidden states that the model itself reports, and against its modules' own tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.capture.layer_parts import Flow, find_parts
from audit.capture.model import LoadedModel, load_model
from audit.capture.site_check import check_site
from audit.capture.sites import Site, SiteKind, parse_site, read_site, read_sites, replaced_site, run_to_site
from audit.config import Dtype, ModelConfig
from audit.errors import SiteNotFound
from tests.capture.conftest import LAYERS, save_model

LAYER = 1
K = SiteKind


@dataclass(frozen=True)
class Wiring:
    """Where an architecture's tensors are: paths of modules in a layer, written down by reading its source.

    Args:
        attention: whose output the attention adds.
        heads: whose input is all heads.
        middle: whose input is the stream between the branches; None in parallel layers.
        reader: whose input is the MLP's.
        mlp: whose output the MLP adds.
        norm: the MLP's norm; None without.
        centred: whether that norm subtracts the mean.
        neurons: whose input is the MLP's neurons; None where each expert has its own.
    """

    attention: str
    heads: str
    middle: str | None
    reader: str
    mlp: str
    norm: str | None
    centred: bool = False
    neurons: str | None = "mlp.down_proj"


BEHIND = "post_attention_layernorm"
LLAMA = Wiring("self_attn", "self_attn.o_proj", BEHIND, "mlp", "mlp", BEHIND)
SANDWICH = Wiring(
    BEHIND, "self_attn.o_proj", "pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm",
    "pre_feedforward_layernorm",
)  # fmt: skip
UP = "mlp.dense_4h_to_h"
FALCON = Wiring("self_attention", "self_attention.dense", None, "mlp", "mlp", None, neurons=UP)
NEOX = Wiring("attention", "attention.dense", None, "mlp", "mlp", BEHIND, centred=True, neurons=UP)
OPT = Wiring(
    "self_attn", "self_attn.out_proj", "final_layer_norm", "fc1", "fc2", "final_layer_norm", centred=True, neurons="fc2"
)
WIRING_OF = {
    "falcon": FALCON,
    "falcon, two norms": replace(FALCON, norm="ln_mlp", centred=True),
    "falcon, sequential": replace(FALCON, middle=BEHIND, norm=BEHIND, centred=True),
    "gemma2": SANDWICH,
    "gemma3_text": SANDWICH,
    "gpt2": Wiring("attn", "attn.c_proj", "ln_2", "mlp", "mlp", "ln_2", centred=True, neurons="mlp.c_proj"),
    "gpt_neox": NEOX,
    "gpt_neox, sequential": replace(NEOX, middle=BEHIND),
    "gptj": Wiring("attn", "attn.out_proj", None, "mlp", "mlp", None, neurons="mlp.fc_out"),
    "mixtral": replace(LLAMA, neurons=None),
    "olmo": replace(LLAMA, centred=True),
    "olmo2": Wiring(BEHIND, "self_attn.o_proj", "mlp", "mlp", "post_feedforward_layernorm", None),
    "opt": OPT,
    "opt, normalised sums": replace(OPT, middle="fc1", norm=None),
    "phi": Wiring("self_attn", "self_attn.dense", None, "mlp", "mlp", None, neurons="mlp.fc2"),
    "stablelm": replace(LLAMA, centred=True),
    "stablelm, parallel": replace(LLAMA, middle=None, norm=None),
}


def wiring_of(model: LoadedModel) -> Wiring:
    """Return where the tensors of a small model are; Llama's places are also those of its many relatives."""
    return WIRING_OF.get(model.record.name, LLAMA)


def example(model: LoadedModel) -> dict[str, Any]:
    """Return a batch of random tokens."""
    ids = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids).to(model.device)
    return {"input_ids": ids.to(model.device), "attention_mask": mask, "use_cache": False}


def sites_of(model: LoadedModel, layer: int = LAYER) -> list[Site]:
    """Return all sites that a layer has."""
    wiring = wiring_of(model)
    missing = {K.RESID_MID} if wiring.middle is None else set()
    missing |= {K.MLP_NORMALIZED} if wiring.norm is None else set()
    missing |= {K.MLP_ACT} if wiring.neurons is None else set()
    return [Site(kind, layer) for kind in K if kind not in missing]


def read_all(model: LoadedModel) -> dict[SiteKind, Tensor]:
    """Return the activations at all sites of a layer, read in one pass."""
    values = read_sites(model.model, model.layers, sites_of(model), example(model))
    return {site.kind: value for site, value in values.items()}


def logits(model: LoadedModel) -> Tensor:
    """Return the model's predictions for the example."""
    with torch.inference_mode():
        found: Tensor = model.model(**example(model)).logits
    return found


def test_resid_post_is_the_hidden_state(any_wiring: LoadedModel) -> None:
    """`resid_post.L` is what the next layer reads, and `resid_pre.L+1` is the same tensor."""
    inputs = example(any_wiring)
    with torch.inference_mode():
        states = any_wiring.model(**inputs, output_hidden_states=True).hidden_states
    wanted = [Site(kind, layer) for layer in range(LAYERS) for kind in (K.RESID_PRE, K.RESID_POST)]
    found = read_sites(any_wiring.model, any_wiring.layers, wanted, inputs)
    for layer in range(LAYERS):
        torch.testing.assert_close(found[Site(K.RESID_PRE, layer)], states[layer])
    # The last state that transformers reports is behind the final norm.
    for layer in range(LAYERS - 1):
        torch.testing.assert_close(found[Site(K.RESID_POST, layer)], states[layer + 1])


def test_each_site_is_the_tensor_of_its_module(any_wiring: LoadedModel) -> None:
    """The sites inside a layer are what plain hooks on the modules see, positions and batch kept apart."""
    wiring, layer, inputs = wiring_of(any_wiring), any_wiring.layers[LAYER], example(any_wiring)
    seen: dict[SiteKind, Tensor] = {}

    def tensor(value: Any) -> Tensor:
        found: Tensor = value[0] if isinstance(value, tuple) else value
        return found.clone().reshape(*inputs["input_ids"].shape, -1)

    def note_input(path: str, kind: SiteKind) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[kind] = tensor(args or kwargs["hidden_states"])

        return layer.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True)

    def note_output(path: str, kind: SiteKind) -> Any:
        return layer.get_submodule(path).register_forward_hook(lambda _, __, out: seen.update({kind: tensor(out)}))

    handles = [
        note_input(wiring.heads, K.ATTN_Z),
        note_output(wiring.attention, K.ATTN_OUT),
        note_input(wiring.reader, K.MLP_IN),
        note_output(wiring.mlp, K.MLP_OUT),
    ]
    if wiring.middle is not None:
        handles.append(note_input(wiring.middle, K.RESID_MID))
    if wiring.neurons is not None:
        handles.append(note_input(wiring.neurons, K.MLP_ACT))
    logits(any_wiring)
    for handle in handles:
        handle.remove()
    found = read_all(any_wiring)
    for kind, value in seen.items():
        torch.testing.assert_close(found[kind], value, atol=0, rtol=0, msg=kind)


def test_the_branches_add_up(any_wiring: LoadedModel) -> None:
    """resid_post = resid_pre + attn_out + mlp_out, and resid_mid lies between them."""
    found = read_all(any_wiring)
    middle = found[K.RESID_PRE] + found[K.ATTN_OUT]
    if find_parts(any_wiring.layers[LAYER]).flow is Flow.NORMALISED:
        layer: Any = any_wiring.layers[LAYER]
        torch.testing.assert_close(found[K.RESID_MID], layer.self_attn_layer_norm(middle))
        ends = layer.final_layer_norm(found[K.RESID_MID] + found[K.MLP_OUT])
        torch.testing.assert_close(found[K.RESID_POST], ends)
        return
    torch.testing.assert_close(found[K.RESID_POST], middle + found[K.MLP_OUT])
    if K.RESID_MID in found:
        torch.testing.assert_close(found[K.RESID_MID], middle)


def test_the_normalised_stream_lacks_gain_and_bias(any_wiring: LoadedModel) -> None:
    """`mlp_normalized` is the stream over its scale; the norm's own weights make `mlp_in` of it."""
    wiring = wiring_of(any_wiring)
    if wiring.norm is None:
        with pytest.raises(SiteNotFound, match="mlp_normalized"):
            read_site(any_wiring.model, any_wiring.layers, Site(K.MLP_NORMALIZED, LAYER), example(any_wiring))
        return
    found = read_all(any_wiring)
    stream = found.get(K.RESID_MID, found[K.RESID_PRE])
    if wiring.centred:
        stream = stream - stream.mean(-1, keepdim=True)
    norm = any_wiring.layers[LAYER].get_submodule(wiring.norm)
    eps = getattr(norm, "eps", getattr(norm, "variance_epsilon", 1e-5))
    torch.testing.assert_close(found[K.MLP_NORMALIZED], stream / (stream.pow(2).mean(-1, keepdim=True) + eps).sqrt())
    gain = getattr(norm, "weight", torch.ones(1))
    gain = 1 + gain if "Gemma" in type(norm).__name__ else gain
    bias = getattr(norm, "bias", torch.zeros(1))
    torch.testing.assert_close(found[K.MLP_IN], found[K.MLP_NORMALIZED] * gain + bias)


def test_sites_are_read_alone_as_together(any_wiring: LoadedModel) -> None:
    """Reading several sites of one layer at once disturbs none of them, in-place sums of a layer included."""
    together = read_all(any_wiring)
    for site in sites_of(any_wiring):
        alone = read_site(any_wiring.model, any_wiring.layers, site, example(any_wiring))
        torch.testing.assert_close(together[site.kind], alone, atol=0, rtol=0)


def test_layers_above_the_site_are_not_run(any_wiring: LoadedModel) -> None:
    """The forward pass ends when the last wanted site was met."""
    for site in sites_of(any_wiring):
        ran: list[int] = []
        handles = [
            layer.register_forward_pre_hook(lambda *_, n=n, ran=ran: ran.append(n), with_kwargs=True)
            for n, layer in enumerate(any_wiring.layers)
        ]
        read_sites(any_wiring.model, any_wiring.layers, [site, Site(K.MLP_IN, 0)], example(any_wiring))
        for handle in handles:
            handle.remove()
        assert ran == [0, 1]


def test_a_cache_is_filled_up_to_the_whole_layer(any_wiring: LoadedModel) -> None:
    """Whatever is read in a layer, running up to it leaves that layer's keys; in front of it, those below."""
    for kind, filled in ((K.ATTN_OUT, [0, 1]), (K.MLP_IN, [0, 1]), (K.RESID_PRE, [0])):
        ended: list[int] = []
        handles = [
            layer.register_forward_hook(lambda *_, n=n, ended=ended: ended.append(n))
            for n, layer in enumerate(any_wiring.layers)
        ]
        run_to_site(any_wiring.model, any_wiring.layers, Site(kind, LAYER), example(any_wiring))
        for handle in handles:
            handle.remove()
        assert ended == filled


def test_replacing_by_itself_changes_nothing_and_by_zero_something(any_wiring: LoadedModel) -> None:
    """A replaced site feeds what follows, and the hook is gone afterwards."""
    clean = logits(any_wiring)
    for site in sites_of(any_wiring):
        with replaced_site(any_wiring.layers, site, lambda x: x):
            same = logits(any_wiring)
        with replaced_site(any_wiring.layers, site, torch.clone):
            copied = logits(any_wiring)
        with replaced_site(any_wiring.layers, site, torch.zeros_like):
            other = logits(any_wiring)
        torch.testing.assert_close(same, clean, atol=0, rtol=0, msg=str(site))
        torch.testing.assert_close(copied, clean, atol=0, rtol=0, msg=str(site))
        assert (other - clean).abs().max() > 1e-5, site
    torch.testing.assert_close(logits(any_wiring), clean, atol=0, rtol=0)


def test_replacing_the_stream_between_the_branches_replaces_all_of_it(any_wiring: LoadedModel) -> None:
    """A zero at `resid_mid` is an attention that cancels the stream before it: nothing below comes through."""
    if wiring_of(any_wiring).middle is None:
        with (
            pytest.raises(SiteNotFound, match="resid_mid"),
            replaced_site(any_wiring.layers, Site(K.RESID_MID, LAYER), torch.zeros_like),
        ):
            pass
        return
    before = read_site(any_wiring.model, any_wiring.layers, Site(K.RESID_PRE, LAYER), example(any_wiring))
    with replaced_site(any_wiring.layers, Site(K.RESID_MID, LAYER), torch.zeros_like):
        zeroed = logits(any_wiring)
        ends = read_site(any_wiring.model, any_wiring.layers, Site(K.RESID_POST, LAYER), example(any_wiring))
    if find_parts(any_wiring.layers[LAYER]).flow is Flow.SEQUENTIAL:
        with replaced_site(any_wiring.layers, Site(K.ATTN_OUT, LAYER), lambda _: -before):
            torch.testing.assert_close(logits(any_wiring), zeroed, atol=1e-5, rtol=1e-4)
    # Only the MLP's answer to a constant is left: the same at every position.
    torch.testing.assert_close(ends, ends[:1, :1].expand_as(ends), atol=1e-5, rtol=1e-4)


def test_replacing_the_normalised_stream_passes_the_gain(any_wiring: LoadedModel) -> None:
    """A change at `mlp_normalized` reaches the MLP through the norm's gain."""
    wiring = wiring_of(any_wiring)
    if wiring.norm is None:
        return
    norm = any_wiring.layers[LAYER].get_submodule(wiring.norm)
    gain = getattr(norm, "weight", torch.ones(1))
    gain = 1 + gain if "Gemma" in type(norm).__name__ else gain
    with replaced_site(any_wiring.layers, Site(K.MLP_NORMALIZED, LAYER), lambda x: x + 0.5):
        below = logits(any_wiring)
    with replaced_site(any_wiring.layers, Site(K.MLP_IN, LAYER), lambda x: x + 0.5 * gain):
        above = logits(any_wiring)
    torch.testing.assert_close(below, above, atol=1e-5, rtol=1e-4)


def test_tested_architectures_pass_the_check(any_wiring: LoadedModel) -> None:
    """Every site that a layer has passes, with the width that an instrument there must have."""
    config: Any = any_wiring.model.config
    heads = config.num_attention_heads * (getattr(config, "head_dim", None) or 8)
    for site in sites_of(any_wiring):
        width = check_site(any_wiring.model, any_wiring.layers, site)
        known = {K.ATTN_Z: heads, K.MLP_ACT: neurons_of(config)}
        assert width == known.get(site.kind, any_wiring.record.width)


def neurons_of(config: Any) -> int:
    """Return how many neurons an MLP of a small model has: what the configuration says, else 4 times the width."""
    # Falcon does not know `intermediate_size`, and keeps what it is given under that name all the same.
    names = ("ffn_hidden_size", "intermediate_size", "ffn_dim", "n_inner")
    stated: list[int] = [value for name in names if (value := getattr(config, name, None))]
    return stated[0] if stated else 4 * 32


def test_neurons_are_behind_the_non_linearity(small_model: LoadedModel) -> None:
    """In a llama `mlp_act` is silu of the gate times the other half, computed here from the weights."""
    mlp: Any = small_model.layers[LAYER].mlp
    sites = (Site(K.MLP_IN, LAYER), Site(K.MLP_ACT, LAYER))
    found = read_sites(small_model.model, small_model.layers, sites, example(small_model))
    gate, up = (found[sites[0]] @ part.weight.T for part in (mlp.gate_proj, mlp.up_proj))
    torch.testing.assert_close(found[sites[1]], gate * torch.sigmoid(gate) * up)


def test_experts_have_no_neurons_in_common(tmp_path: Path) -> None:
    """A mixture of experts has no `mlp_act`, nor has an MLP whose output is more than its last layer gives."""
    for kind, changes in (("mixtral", {}), ("bloom", {"n_head": 4})):
        model = load_model(ModelConfig(source=str(save_model(tmp_path / kind, kind, **changes))))
        with pytest.raises(SiteNotFound, match="mlp_act") as caught:
            check_site(model.model, model.layers, Site(K.MLP_ACT, LAYER))
        assert {"mixtral": "mixture of experts", "bloom": "something else or more"}[kind] in caught.value.found


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gptj", "falcon"])
def test_rounding_is_no_reason_to_refuse(tmp_path: Path, kind: str) -> None:
    """In bfloat16 the sums hold as far as the numbers go."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / kind, kind)), dtype=Dtype.BF16))
    for site in sites_of(model):
        check_site(model.model, model.layers, site)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("bloom", {"n_head": 4}), ("granite", {"num_attention_heads": 4, "residual_multiplier": 0.3})],
)
def test_branches_that_do_not_add_are_refused(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    """Bloom adds the stream inside its branches, Granite scales what they give: no site is silently another one."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / "m", kind, **changes))))
    for refused in (K.MLP_OUT, K.ATTN_OUT, K.RESID_MID):
        with pytest.raises(SiteNotFound, match=refused) as caught:
            check_site(model.model, model.layers, Site(refused, LAYER))
        assert "of what is added" in caught.value.found
    for known in (K.RESID_PRE, K.RESID_POST, K.MLP_IN, K.MLP_NORMALIZED, K.ATTN_Z):
        assert check_site(model.model, model.layers, Site(known, LAYER)) == model.record.width


def test_a_module_that_a_norm_follows_is_not_the_branch(tmp_path: Path, small_model: LoadedModel) -> None:
    """`layers.L.mlp` is what the MLP adds in Llama, and is not in Gemma 2; a norm's name is the other way round."""
    gemma = load_model(ModelConfig(source=str(save_model(tmp_path / "m", "gemma2"))))
    module, norm = "layers.1.mlp", "model.layers.1.post_feedforward_layernorm.output"
    for name, fits, other in ((module, small_model, gemma), (norm, gemma, small_model)):
        site = parse_site(name, layers=LAYERS)
        assert site == Site(K.MLP_OUT, 1)
        assert check_site(fits.model, fits.layers, site, name=name) == fits.record.width
        with pytest.raises(SiteNotFound, match=r"mlp|layernorm"):
            check_site(other.model, other.layers, site, name=name)


class Doubling(nn.Module):
    """A layer that doubles its input and returns it in one of the forms that layers use."""

    def __init__(self, *, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, hidden_states: Tensor) -> Any:
        """Return twice the input."""
        return (2 * hidden_states, None) if self.as_tuple else 2 * hidden_states


class Stack(nn.Module):
    """A model of such layers that passes its states by position or by keyword."""

    def __init__(self, *, as_tuple: bool, by_keyword: bool) -> None:
        super().__init__()
        self.by_keyword = by_keyword
        self.layers = nn.ModuleList(Doubling(as_tuple=as_tuple) for _ in range(3))

    def forward(self, states: Tensor) -> Any:
        """Return eight times the input."""
        for layer in self.layers:
            result = layer(hidden_states=states) if self.by_keyword else layer(states)
            states = result[0] if isinstance(result, tuple) else result
        return SimpleNamespace(logits=states)


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("by_keyword", [False, True])
def test_layers_may_return_tuples_and_take_keywords(*, as_tuple: bool, by_keyword: bool) -> None:
    """Reading and replacing work in all four forms."""
    model, states = Stack(as_tuple=as_tuple, by_keyword=by_keyword), torch.ones(1, 2, 3)
    for kind, value in ((K.RESID_PRE, 2.0), (K.RESID_POST, 4.0)):
        assert torch.equal(read_site(model, model.layers, Site(kind, 1), {"states": states}), value * states)
        with replaced_site(model.layers, Site(kind, 1), lambda x: x + 1):
            after = model(states).logits
        assert torch.equal(after, (12.0 if kind is K.RESID_PRE else 10.0) * states)


def test_a_site_that_is_never_met_is_an_error() -> None:
    """No site comes back empty."""
    model = Stack(as_tuple=False, by_keyword=False)
    unused = nn.ModuleList([*model.layers, Doubling(as_tuple=False)])
    with pytest.raises(SiteNotFound, match=r"resid_post\.3"):
        read_site(model, unused, Site(K.RESID_POST, 3), {"states": torch.ones(1, 2, 3)})


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("resid_post.2", "resid_post.2"),
        ("attn_z.0", "attn_z.0"),
        ("mlp_normalized.3", "mlp_normalized.3"),
        ("blocks.2.hook_resid_pre", "resid_pre.2"),
        ("blocks.2.hook_resid_mid", "resid_mid.2"),
        ("blocks.2.hook_resid_post", "resid_post.2"),
        ("blocks.2.hook_mlp_out", "mlp_out.2"),
        ("blocks.2.hook_attn_out", "attn_out.2"),
        ("blocks.2.attn.hook_z", "attn_z.2"),
        ("blocks.2.hook_in", "resid_pre.2"),
        ("blocks.2.hook_out", "resid_post.2"),
        ("blocks.2.attn.hook_out", "attn_out.2"),
        ("blocks.2.mlp.hook_in", "mlp_in.2"),
        ("blocks.2.mlp.hook_out", "mlp_out.2"),
        ("blocks.2.mlp.hook_post", "mlp_act.2"),
        ("blocks.2.mlp.out.hook_in", "mlp_act.2"),
        ("blocks.2.hook_mlp_in", "resid_mid.2"),
        ("blocks.2.ln2.hook_normalized", "mlp_normalized.2"),
        ("blocks.2.ln2_post.hook_out", "mlp_out.2"),
        ("layers.2", "resid_post.2"),
        ("h.2", "resid_post.2"),
        ("transformer.h.2", "resid_post.2"),
        ("model.layers.2", "resid_post.2"),
        ("gpt_neox.layers.2", "resid_post.2"),
        ("layers.2.mlp", "mlp_out.2"),
        ("layers.2.attention", "attn_out.2"),
        ("model.layers.2.self_attn", "attn_out.2"),
        ("model.layers.2.output", "resid_post.2"),
        ("model.layers.2.input", "resid_pre.2"),
        ("model.layers.2.mlp.input", "mlp_in.2"),
        ("model.layers.2.mlp.down_proj.input", "mlp_act.2"),
        ("decoder.layers.2.fc2.input", "mlp_act.2"),
        ("model.layers.2.pre_feedforward_layernorm.output", "mlp_in.2"),
        ("model.layers.2.post_feedforward_layernorm.output", "mlp_out.2"),
        ("model.layers.2.self_attn.o_proj.input", "attn_z.2"),
        ("model.language_model.layers.2.output", "resid_post.2"),
        ("resid_post_layer_2", "resid_post.2"),
    ],
)
def test_published_names_are_read(name: str, site: str) -> None:
    """A published hook's name becomes the name that records use, which reads back as itself."""
    found = parse_site(name, layers=LAYERS)
    assert str(found) == site
    assert parse_site(str(found), layers=LAYERS) == found


@pytest.mark.parametrize(
    "name",
    [
        "resid_post.4", "resid_post", "resid_post.-1", "mlp.1", "", "resid_post.1.2", "resid_post.²", "resid_post.٣",
        "blocks.4.hook_resid_post", "blocks.1.hook_q", "blocks.1.ln1.hook_normalized", "layers.1.hook_resid_post",
        "blocks.1.attn.hook_pattern", "hook_embed", "embed_tokens", "vision_tower.encoder.layers.1", "layers.9.mlp",
        "model.layers.1.post_attention_layernorm.output", "xblocks.1.hook_resid_post", "resid_post.1\n",
        "resid_post." + "1" * 5000,
    ],
)  # fmt: skip
def test_unknown_sites_are_refused(name: str) -> None:
    """The error says which layers there are; a name that means different things in different models is none."""
    with pytest.raises(SiteNotFound) as caught:
        parse_site(name, layers=LAYERS)
    assert "0 to 3" in caught.value.expected


def test_sites_are_ordered_as_a_layer_computes_them() -> None:
    """The highest of several sites is the last one that a sequential layer meets."""
    kinds = [
        K.RESID_PRE, K.ATTN_Z, K.ATTN_OUT, K.RESID_MID, K.MLP_NORMALIZED, K.MLP_IN, K.MLP_OUT, K.RESID_POST,
    ]  # fmt: skip
    sites = [Site(kind, layer) for layer in range(2) for kind in kinds]
    mixed = [*sites[1::2], *sites[::2]]
    assert sorted(mixed, key=lambda site: site.depth) == sites
