"""Imports of explanations: what is kept, what is refused, and to which weights it is bound."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit import labels as module
from audit.cli.root import run
from audit.digests import canonical_json
from audit.errors import ConfigError, ExitCode, LabelsInvalid, OutputError
from audit.labels import import_labels, read_labels, write_labels
from audit.records import LeftOut, SaeRecord, as_json

SAE = SaeRecord(
    name="s",
    site="resid_post.20",
    target="resid_post.20",
    architecture="jumprelu",
    format="gemma_scope",
    source="s",
    latents=100,
    k=None,
    width=8,
    target_width=8,
    digest="sha256:" + "a" * 64,
    training_tokens=None,
    training_updates=None,
    training_data_digest=None,
    licence="MIT",
    notes=(),
)
LAYER = "20-gemmascope-res-16k"


def row(index: object, text: str = "mentions of doses", **more: object) -> dict[str, Any]:
    """Return an explanation as an export has it."""
    base = {"id": "x", "modelId": "gemma-2-2b", "layer": LAYER, "index": index, "description": text, "scoreV1": 0}
    return {**base, "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", **more}


def score(value: object, kind: str = "eleuther_fuzz", judge: str = "gpt-4o") -> dict[str, Any]:
    """Return a score as the API has it."""
    return {"value": value, "explanationScoreTypeName": kind, "explanationScoreModelName": judge}


def lines(*rows: object) -> bytes:
    """Return JSON lines."""
    return b"".join(json.dumps(item).encode() + b"\n" for item in rows)


def export(folder: Path, data: bytes, name: str = "batch-0.jsonl") -> Path:
    """Write an export."""
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["lines", "gzip", "array", "pretty", "feature", "one"])
def test_every_form_of_an_export_gives_the_same_labels(tmp_path: Path, form: str) -> None:
    """JSON lines, packed, an array on one line or many, and a feature with its explanations."""
    rows = [row("7"), row("12", "a\n  second")]
    child = {"description": "mentions of doses", "typeName": "t"}
    data = {
        "lines": lines(*rows),
        "gzip": gzip.compress(lines(*rows)),
        "array": json.dumps(rows).encode(),
        "pretty": json.dumps({"explanations": rows}, indent=2).encode(),
        "feature": lines({"modelId": "gemma-2-2b", "layer": LAYER, "index": 7, "explanations": [child]}, rows[1]),
        "one": lines(rows[0]),
    }[form]
    found = import_labels([export(tmp_path, data)], SAE)
    assert [(label.latent, label.text) for label in found.labels][:1] == [(7, "mentions of doses")]
    assert len(found.labels) == (1 if form == "one" else 2)
    assert form == "one" or found.labels[1].text == "a second"
    assert (found.model, found.layer, found.sae_digest) == ("gemma-2-2b", LAYER, SAE.digest)


def test_the_best_by_the_common_scorer_is_kept(tmp_path: Path) -> None:
    """Fuzzing scored three, another scorer one, whose 0.99 does not count; scoreV1 = 0 is no score."""
    rows = [
        row("3", "b", scores=[score(0.6)]),
        row("3", "a", scores=[score(0.8)]),
        row("3", "c", scores=[score(0.99, "recall_alt")]),
        row("4", "d", scores=[score(0.7)]),
        row("5", "z"),
        row("5", "e"),
    ]
    paths = [export(tmp_path, lines(*rows[:3]), "a"), export(tmp_path, lines(*rows[3:]), "b")]
    found = import_labels(paths, SAE)
    assert found.scorer == "eleuther_fuzz by gpt-4o"
    assert [(label.latent, label.text, label.score) for label in found.labels] == [
        (3, "a", 0.8), (4, "d", 0.7), (5, "e", None),
    ]  # fmt: skip
    assert found.left_out == (LeftOut("another explanation of the same feature is kept", 3),)
    assert len(found.exports) == 2
    assert import_labels(paths[::-1], SAE) == found


def test_texts_that_cannot_be_printed_are_left_out_and_counted(tmp_path: Path) -> None:
    """Empty, too long, with a character that hides or reorders; a label at the limit stays."""
    rows = [row("1", " "), row("2", "x" * 1001), row("3", "a\u202eb"), row("4", "a\x1b[2Jb"), row("5", "x" * 1000)]
    found = import_labels([export(tmp_path, lines(*rows))], SAE)
    assert [label.latent for label in found.labels] == [5]
    assert {left.reason: left.count for left in found.left_out} == {
        "empty": 1, "longer than 1000 characters": 1, "control or invisible characters": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "Expecting value"),
        (b"modelId,layer\n1,2\n", "Expecting value"),
        (lines(row("1")) + b"{broken\n", "Expecting property name"),
        (b"[" * 5000, "nesting"),
        (b"\xff\xfe\x00", "utf-8"),
        (b"[]", "no explanation"),
        (b"3", "3"),
        (lines(row("1", " ")), "1 empty"),
        (lines({k: v for k, v in row("1").items() if k != "description"}), "nothing"),
        (lines({k: v for k, v in row("1").items() if k != "modelId"}), "nothing"),
        (lines(row("1", layer="20\u202e")), "'20\\u202e'"),
        (lines(row(None)), "nothing"),
        (lines(row("-1")), "'-1'"),
        (lines(row("1.0")), "'1.0'"),
        (lines(row(True)), "True"),
        (lines(row("\u0663")), "'\\u0663'"),
        (lines(row("99"), row("100")), "100"),
        (lines(row("1", scores="high")), "'high'"),
        (lines(row("1", scores=[score("high")])), "high"),
        (lines({"explanations": [3]}), "[3]"),
        (lines(row("1"), row("2", layer="21-gemmascope-res-16k")), "of gemma-2-2b/21-gemmascope-res-16k"),
        (lines(row("1"), row("2", modelId="other")), f"of other/{LAYER}"),
        (lines(row("1", layer="19-gemmascope-res-16k")), "layer '19-gemmascope-res-16k'"),
        (lines(row("1", layer="20-gemmascope-mlp-16k")), "layer '20-gemmascope-mlp-16k'"),
        (lines(row("1", layer="20")), "'20'"),
        (b"\x1f\x8b\x07no gzip", "unknown compression"),
        (gzip.compress(lines(row("1")))[:-4], "end-of-stream"),
    ],
)
def test_each_bad_export_is_one_clear_error(tmp_path: Path, data: bytes, found: str) -> None:
    """The error says where, what was expected and what was found, and ends with the usage code."""
    with pytest.raises(LabelsInvalid) as caught:
        import_labels([export(tmp_path, data)], SAE)
    assert found.lower() in caught.value.found.lower()
    assert caught.value.item.startswith("batch-0.jsonl")
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    """Also one that is small until it is unpacked; no more than the limit is."""
    monkeypatch.setattr(module, "MAX_EXPORT_BYTES", 1 << 20)
    data = b" " * ((1 << 20) + 1)
    with pytest.raises(LabelsInvalid) as caught:
        import_labels([export(tmp_path, gzip.compress(data) if packed else data)], SAE)
    assert caught.value.expected == "at most 1 MiB, unpacked"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One error, no traceback."""
    with pytest.raises(LabelsInvalid):
        import_labels([tmp_path / "none"], SAE)


@pytest.mark.parametrize(
    ("layer", "site", "target"),
    [
        ("8-res-jb", "resid_pre.8", "resid_pre.8"),
        ("5-res_mid_32k-oai", "resid_mid.5", "resid_mid.5"),
        ("3-att-kk", "attn_z.3", "attn_z.3"),
        ("12-gemmascope-transcoder-16k", "mlp_normalized.12", "mlp_out.12"),
        ("12-own-name", "mlp_out.12", "mlp_out.12"),
    ],
)
def test_names_of_sources_are_understood(tmp_path: Path, layer: str, site: str, target: str) -> None:
    """Neuronpedia's own names for other places than Gemma Scope's; a name without a known word says the layer only."""
    path = export(tmp_path, lines(row("1", layer=layer)))
    assert import_labels([path], replace(SAE, site=site, target=target)).layer == layer


def test_labels_are_used_for_the_weights_they_are_bound_to(tmp_path: Path) -> None:
    """By digest, whatever the name; what belongs to no audited SAE names both digests."""
    found = import_labels([export(tmp_path, lines(row("1")))], SAE)
    path = tmp_path / "labels.json"
    write_labels(path, found)
    assert read_labels([str(path)], [replace(SAE, name="renamed")]) == {"renamed": (found,)}
    other = replace(SAE, digest="sha256:" + "b" * 64)
    with pytest.raises(ConfigError) as caught:
        read_labels([str(path)], [other])
    assert SAE.digest in caught.value.found
    assert other.digest in caught.value.expected
    assert path.read_bytes() == canonical_json(as_json(found))
    with pytest.raises(OutputError):
        write_labels(path, found)


def test_a_changed_label_file_is_refused(tmp_path: Path) -> None:
    """Another schema, a hidden character, a feature twice or out of range, an unknown key, none at all."""
    value: Any = json.loads(canonical_json(as_json(import_labels([export(tmp_path, lines(row("1")))], SAE))))
    label = value["labels"][0]
    path = tmp_path / "labels.json"
    for change in (
        {"schema": "affidavit/labels/2"},
        {"labels": []},
        {"labels": [label, label]},
        {"labels": [{**label, "latent": -1}]},
        {"labels": [{**label, "latent": 100}]},
        {"labels": [{**label, "text": "a\u202eb"}]},
        {"labels": [{**label, "text": "x" * 1001}]},
        {"labels": [{**label, "text": ""}]},
        {"labels": [{**label, "explainer": "x\x1b"}]},
        {"labels": [{**label, "score": "high"}]},
        {"model": "a\nb"},
        {"source": "mine"},
        {"more": 1},
    ):
        path.write_bytes(json.dumps(value | change).encode())
        with pytest.raises(LabelsInvalid):
            read_labels([str(path)], [SAE])
    path.write_bytes(b"no json")
    with pytest.raises(LabelsInvalid):
        read_labels([str(path)], [SAE])


def test_the_command_binds_an_export_to_a_shipped_sae(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it wrote and what it left out; a second run does not overwrite; a wrong layer exits 2."""
    path = export(tmp_path, lines(row("943", layer="15-own-res-4k"), row("943", "b", layer="15-own-res-4k")))
    out = tmp_path / "labels.json"
    arguments = ["labels", "import", str(path), "--sae", "smollm2-135m-instruct.resid_post.15", "--out", str(out)]
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "1 labels for 4,608 features" in said
    assert "left out  1: another explanation" in said
    assert json.loads(out.read_bytes())["sae_digest"] in said
    assert run(arguments) == 2
    wrong = export(tmp_path, lines(row("943")), "wrong.jsonl")
    assert run(["labels", "import", str(wrong), "--sae", "default", "--out", str(tmp_path / "new.json")]) == 2
    assert not (tmp_path / "new.json").exists()
