"""The configuration refuses whatever it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.config import AuditConfig, PromptFormat, load_config, parse_config
from audit.errors import ConfigError, ExitCode


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    """Every key has a default."""
    path = tmp_path / "audit.toml"
    path.write_text("")
    assert load_config(path) == AuditConfig()


def test_values_arrive_typed() -> None:
    """Enums, tuples, whole numbers as floats."""
    data = {"probes": {"suites": ["finance"], "format": "plain"}, "capture": {"outlier_norm_factor": 12}}
    config = parse_config(data, origin="t")
    assert config.probes.suites == ("finance",)
    assert config.probes.format is PromptFormat.PLAIN
    assert config.capture.outlier_norm_factor == 12.0


@pytest.mark.parametrize(
    ("data", "item"),
    [
        ({"analysys": {}}, "analysys"),
        ({"analysis": {"fdr": 0.05}}, "analysis.fdr"),
        ({"analysis": {"flips": "many"}}, "analysis.flips"),
        ({"analysis": {"flips": True}}, "analysis.flips"),
        ({"analysis": {"fdr_q": 0.9}}, "analysis.fdr_q"),
        ({"probes": {"suites": "finance"}}, "probes.suites"),
        ({"probes": {"suites": []}}, "probes.suites"),
        ({"sae": {"sources": []}}, "sae.sources"),
        ({"sae": {"controls": "default"}}, "sae.controls"),
        ({"sae": {"controls": [1]}}, "sae.controls"),
        ({"probes": {"format": "xml"}}, "probes.format"),
        ({"fidelity": {"green_fvu": 0.9}}, "fidelity.green_fvu"),
        ({"fidelity": {"green_delta_ce": 0.9}}, "fidelity.green_delta_ce"),
        ({"sae": {"labels": "labels.json"}}, "sae.labels"),
        ({"model": "gpt2"}, "model"),
        ({"probes": {"format": []}}, "probes.format"),
        ({"probes": {"format": {}}}, "probes.format"),
        ({"model": {"dtype": {}}}, "model.dtype"),
        ({"model": {"dtype": ["fp32"]}}, "model.dtype"),
        ({"analysis": {"seed": -1}}, "analysis.seed"),
        ({"analysis": {"seed": 2**63}}, "analysis.seed"),
        ({"capture": {"executor": "dask"}}, "capture.executor"),
        ({"capture": {"workers": -1}}, "capture.workers"),
        ({"report": {"page_size": "A5"}}, "report.page_size"),
        ({"seal": {"level": "B-X"}}, "seal.level"),
        ({"seal": {"level": "B-T"}}, "seal.tsa"),
        ({"seal": {"level": "B-LT", "tsa": "ftp://tsa"}}, "seal.tsa"),
        ({"seal": {"level": "B-T", "tsa": "http://"}}, "seal.tsa"),
        ({"seal": {"level": "B-T", "tsa": "http://[bad"}}, "seal.tsa"),
        ({"seal": {"level": "B-T", "tsa": "https://user:secret@tsa"}}, "seal.tsa"),
        ({"seal": {"tsa": "http://tsa.example"}}, "seal.tsa"),
        ({"seal": {"without_timestamp": "maybe"}}, "seal.without_timestamp"),
        ({"report": {"title": ""}}, "report.title"),
        ({"report": {"title": "  "}}, "report.title"),
        ({"report": {"title": "x" * 121}}, "report.title"),
        ({"report": {"title": "a\nb"}}, "report.title"),
        ({"report": {"title": "a\u202eb"}}, "report.title"),
    ],
)
def test_bad_values_are_named(data: dict[str, object], item: str) -> None:
    """The error names the key and ends with the usage code."""
    with pytest.raises(ConfigError) as caught:
        parse_config(data, origin="audit.toml")
    assert item in caught.value.item
    assert caught.value.exit_code is ExitCode.USAGE


def test_controls_may_be_none() -> None:
    """An empty list stands for no trained control; unset, for the shipped one."""
    assert parse_config({"sae": {"controls": []}}, origin="t").sae.controls == ()
    assert AuditConfig().sae.controls == ("default",)


def test_broken_toml_and_missing_file(tmp_path: Path) -> None:
    """Both are one clear error."""
    path = tmp_path / "audit.toml"
    with pytest.raises(ConfigError):
        load_config(path)
    path.write_text("[analysis\n")
    with pytest.raises(ConfigError):
        load_config(path)


def test_a_section_that_is_no_table_is_told_so() -> None:
    """`model = 3` stands where `[model]` belongs."""
    with pytest.raises(ConfigError) as caught:
        parse_config({"model": 3}, origin="audit.toml")
    assert caught.value.expected == "a table [model]"


def test_the_ends_of_the_ranges_are_inside() -> None:
    """The greatest seed, the longest title, equal limits."""
    data = {
        "analysis": {"seed": 2**63 - 1},
        "report": {"title": "é" * 120},
        "fidelity": {"green_delta_ce": 0.4, "amber_delta_ce": 0.4},
    }
    assert parse_config(data, origin="t").analysis.seed == 2**63 - 1
