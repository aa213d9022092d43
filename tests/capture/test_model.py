"""Loading: only a model whose every weight comes from its files, and the right list of layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from audit.capture.model import LoadedModel, convert_gguf, find_layers, load_model
from audit.capture.sites import Site, SiteKind, read_site
from audit.config import ModelConfig
from audit.errors import ModelUnavailable, SiteNotFound
from tests.capture.conftest import LAYERS, SMALL, save_model

IDS = torch.tensor([[5, 6, 7, 300, 9]])


def load(path: Path) -> LoadedModel:
    """Load a model by its path."""
    return load_model(ModelConfig(source=str(path)))


def logits(model: nn.Module) -> Tensor:
    """Return a model's predictions for a few tokens."""
    with torch.inference_mode():
        found: Tensor = model(input_ids=IDS).logits
    return found


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """Change a saved model's tensors in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def test_a_folder_gives_its_model(tmp_path: Path) -> None:
    """The record says what was loaded."""
    record = load(save_model(tmp_path / "my model", "qwen3")).record
    assert (record.name, record.architecture, record.layers, record.width) == (
        "my model", "Qwen3ForCausalLM", LAYERS, 32,
    )  # fmt: skip


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """A download that ended early is told as such."""
    folder = save_model(tmp_path / "m", "llama")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="m"):
        load(folder)


@pytest.mark.parametrize("kept", [0, 7, 200, 100_000])
def test_truncated_weights_are_refused(tmp_path: Path, kept: int) -> None:
    """A file that was cut anywhere is one clear error."""
    folder = save_model(tmp_path / "m", "llama")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    assert kept < len(whole)
    path.write_bytes(whole[:kept])
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert caught.value.found


def test_a_damaged_pickle_is_refused_without_advice_to_trust_it(tmp_path: Path) -> None:
    """The old format's error is this project's own: PyTorch's recommends to run whatever the file holds."""
    folder = save_model(tmp_path / "m", "llama")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle" * 50)
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert "weights_only" not in str(caught.value)


def test_a_configuration_of_another_architecture_is_refused(tmp_path: Path) -> None:
    """Transformers would fill a GPT-2 with random numbers; the error names weights of both sides."""
    folder, other = save_model(tmp_path / "llama", "llama"), save_model(tmp_path / "gpt2", "gpt2")
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert "GPT2LMHeadModel" in caught.value.expected
    assert "missing: transformer.h.0" in caught.value.found
    assert "not used: lm_head" in caught.value.found or "not used: model" in caught.value.found
    assert "more" in caught.value.found


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    """One tensor that the files lack is named."""
    name = "model.layers.2.mlp.down_proj.weight"
    folder = change_weights(save_model(tmp_path / "m", "llama"), lambda tensors: tensors.__delitem__(name))
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert caught.value.found == f"1 missing: {name}"


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    """A tensor that does not fit is named, not replaced by random numbers."""
    name = "model.layers.0.mlp.up_proj.weight"
    folder = change_weights(
        save_model(tmp_path / "m", "llama"), lambda tensors: tensors.update({name: torch.zeros(8, 32)})
    )
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert caught.value.found == f"1 of another shape: {name}"


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.4.mlp.up_proj.weight"])
def test_a_weight_that_would_be_passed_over_is_refused(tmp_path: Path, name: str) -> None:
    """A bias that the configuration does not know, or a layer beyond its last one, changes what the model computes."""
    folder = change_weights(save_model(tmp_path / "m", "llama"), lambda tensors: tensors.update({name: torch.ones(4)}))
    with pytest.raises(ModelUnavailable) as caught:
        load(folder)
    assert caught.value.found == f"1 not used: {name}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("llama", "vision_tower.layers.0.weight"),
        ("llama", "v_head.summary.weight"),
    ],
)
def test_old_buffers_and_other_towers_do_no_harm(tmp_path: Path, kind: str, name: str) -> None:
    """What decides nothing about the text model may lie beside its weights."""
    folder = save_model(tmp_path / "m", kind)
    clean = logits(load(folder).model)
    change_weights(folder, lambda tensors: tensors.update({name: torch.ones(4)}))
    torch.testing.assert_close(logits(load(folder).model), clean, atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "opt"])
def test_tied_weights_are_stored_once(tmp_path: Path, kind: str) -> None:
    """An unembedding that is the embedding is not missing."""
    folder = save_model(tmp_path / "m", kind)
    assert not any("lm_head" in key for key in load_file(folder / "model.safetensors"))
    head: Any = load(folder).model
    assert head.get_output_embeddings().weight is head.get_input_embeddings().weight


def write_gguf(path: Path, folder: Path) -> Path:
    """Write a saved llama and its tokenizer as a GGUF file, as llama.cpp's converter lays it out."""
    config, tensors = AutoConfig.from_pretrained(folder), load_file(folder / "model.safetensors")
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])
    special = set(tokenizer.all_special_ids)
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_types([3 if number in special else 1 for _, number in pieces])
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in tensors.items():
        writer.add_tensor(gguf_name(name), interleaved(tensor, heads.get(name.split(".")[-2])).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    """Return GGUF's name of a llama tensor."""
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    if not name.startswith("model.layers."):
        return f"{names[name.removesuffix('.weight')]}.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"


def interleaved(tensor: Tensor, heads: int | None) -> Tensor:
    """Return a rotary projection's rows in the order of llama.cpp, which pairs neighbours instead of halves."""
    if heads is None:
        return tensor
    return tensor.reshape(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape).contiguous()


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small llama as a GGUF file, beside the folder it was made from."""
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(folder / "small.gguf", save_model(folder / "llama", "llama"))


def test_a_gguf_file_gives_its_model(gguf_file: Path) -> None:
    """The same predictions and tokens as the folder from which the file was made."""
    model, origin = load(gguf_file), load(gguf_file.parent / "llama")
    assert (model.record.name, model.record.source, model.record.width) == ("small", "small.gguf", 32)
    torch.testing.assert_close(logits(model.model), logits(origin.model), atol=1e-5, rtol=1e-5)
    text = "the nurse gave the patient a dose"
    assert model.tokenizer(text, add_special_tokens=False)["input_ids"] == origin.tokenizer(text)["input_ids"]


def test_a_converted_gguf_file_loads_as_a_folder(gguf_file: Path, tmp_path: Path) -> None:
    """The folder that the conversion writes is whole by the same rule."""
    convert_gguf(gguf_file, tmp_path / "folder")
    torch.testing.assert_close(
        logits(load(tmp_path / "folder").model), logits(load(gguf_file).model), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("kept", [0, 3, 100, 20_000, -100])
def test_a_truncated_gguf_file_is_refused(gguf_file: Path, tmp_path: Path, kept: int) -> None:
    """A file that was cut anywhere is one clear error."""
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:kept])
    with pytest.raises(ModelUnavailable, match=r"cut\.gguf"):
        load(cut)


@pytest.fixture(scope="module")
def multimodal() -> nn.Module:
    """Return a small Gemma 3 with a vision tower of as many layers as its text decoder."""
    text = {"num_hidden_layers": LAYERS, "vocab_size": 400, **SMALL["gemma3_text"]}
    vision = {
        "hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 4, "num_hidden_layers": LAYERS,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=399
    )
    torch.manual_seed(0)
    model: nn.Module = AutoModelForCausalLM.from_config(config).eval()
    return model


def test_the_text_decoder_is_found_beside_a_vision_tower(multimodal: nn.Module) -> None:
    """A tower with as many layers is not mistaken for the model, and its sites are the text's."""
    layers = find_layers(multimodal)
    assert {type(layer).__name__ for layer in layers} == {"Gemma3DecoderLayer"}
    assert read_site(multimodal, layers, Site(SiteKind.RESID_POST, 1), {"input_ids": IDS}).shape == (1, 5, 32)


def test_lists_of_experts_are_not_layers(tmp_path: Path) -> None:
    """Lists inside a layer, and lists without attention, are no candidates."""
    model: Any = load(save_model(tmp_path / "m", "llama")).model
    layers = model.model.layers
    layers[0].mlp.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    model.model.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    assert find_layers(model) is layers


def test_two_stacks_are_ambiguous(tmp_path: Path) -> None:
    """A model with two stacks of attention layers is refused by naming both; one without any, too."""
    model: Any = load(save_model(tmp_path / "m", "llama")).model
    model.model.other = nn.ModuleList(model.model.layers)
    model.model.other[0] = type(model.model.layers[0])(model.config, 0)
    with pytest.raises(SiteNotFound) as caught:
        find_layers(model)
    assert caught.value.found == "layers, other"
    model.config.num_hidden_layers = LAYERS + 1
    with pytest.raises(SiteNotFound) as caught:
        find_layers(model)
    assert caught.value.found == "none"
