"""Framework files: what ships keeps the schema, and what breaks it is refused with file, line and field."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.errors import FrameworkError
from audit.frameworks.clauses import EvidenceKind, Framework, Part
from audit.frameworks.files import read_framework, shipped_frameworks
from audit.records import Contrast, Rung
from probes.loader import builtin_names, load_suite

Change = Callable[[Any], None]
FOLDER = Path(str(files("templates"))) / "frameworks"
PATHS = sorted(FOLDER.glob("*.yaml"))
NAMES = ["cfr_part_11", "dodd_3000_09", "eu_ai_act", "fda_pccp", "hipaa", "iso_42001", "nist_ai_rmf", "us_model_risk"]
PROMISES = ("satisf", "complies", "comply", "compliant", "compliance", "conform", "fulfil", "certified", "meets")


def test_the_eight_frameworks_ship() -> None:
    """Those for every audit come first."""
    assert [path.stem for path in PATHS] == NAMES
    shipped = shipped_frameworks()
    assert sorted(framework.id for framework in shipped) == NAMES
    assert [framework.id for framework in shipped[:3]] == ["eu_ai_act", "iso_42001", "nist_ai_rmf"]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Return each shipped framework."""
    return read_framework(request.param)


def test_dates_and_digest(framework: Framework) -> None:
    """The edition is dated, the check is later, and the digest is that of the file's bytes."""
    assert framework.published <= framework.checked.isoformat()
    assert framework.checked <= date(2100, 1, 1)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", framework.digest)
    assert framework.language == "en"


def test_nothing_is_promised(framework: Framework) -> None:
    """What may be cited is never said to decide a clause, and every clause says what is left open."""
    for clause in framework.clauses:
        assert not [word for word in PROMISES if word in clause.use.lower()], clause.id
        assert len(clause.does_not_cover) > 20, clause.id
        assert clause.asks


def test_selectors_name_existing_things(framework: Framework) -> None:
    """Domains are those of shipped suites, parts are known ones, and only confirmed and causal findings count."""
    domains = {load_suite(name).domain for name in builtin_names()}
    assert set(framework.domains) <= domains
    for clause in framework.clauses:
        assert set(clause.parts) <= set(Part)
        for selector in clause.findings:
            assert set(selector.domains) <= domains
            assert set(selector.rungs) <= {Rung.CONFIRMED, Rung.CAUSAL}
            assert set(selector.contrasts) <= set(Contrast)
        interventions = [s for s in clause.findings if s.kind in (EvidenceKind.INTERVENTIONS, EvidenceKind.PAIRS)]
        assert all(selector.rungs == (Rung.CAUSAL,) for selector in interventions)


def test_bank_guidance_says_that_generative_ai_is_outside() -> None:
    """SR 26-2 and OCC 2026-13 leave it out of their scope: the rows are no more than an analogy."""
    (framework,) = (each for each in shipped_frameworks() if each.id == "us_model_risk")
    assert "Generative AI is outside the scope" in framework.scope
    assert "SR 26-2" in framework.edition


def broken(folder: Path, change: Change, name: str = "hipaa") -> str:
    """Return the error of a shipped file after a change."""
    path = folder / f"{name}.yaml"
    shutil.copy(FOLDER / path.name, path)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    with pytest.raises(FrameworkError) as caught:
        read_framework(path)
    return str(caught.value)


def clause(data: Any) -> Any:
    """Return the first clause."""
    return data["clauses"][0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: clause(d).pop("does_not_cover"), "clauses[0].does_not_cover expected this key"),
        (lambda d: clause(d).update(does_not_cover=" "), "clauses[0].does_not_cover expected a text that is not empty"),
        (lambda d: clause(d)["supports"].update(use="Satisfies the rule."), "words that claim no 'Satisfies'"),
        (lambda d: clause(d)["supports"].update(use="Ensures integrity."), "clauses[0].supports.use"),
        (lambda d: clause(d)["supports"].update(parts=["charts"]), "clauses[0].supports.parts[0] expected 'suites'"),
        (
            lambda d: clause(d)["supports"].update(parts=[]),
            "expected findings or parts that may be cited; found neither",
        ),
        (lambda d: clause(d).update(asks="word " * 60), "clauses[0].asks expected at most 240 characters"),
        (lambda d: clause(d).update(number=7.5), "clauses[0].number expected a text; quote"),
        (lambda d: clause(d).update(basis="hearsay"), "clauses[0].basis expected 'original', 'reprint'"),
        (lambda d: d["clauses"].append(deepcopy(clause(d))), "clauses[1].id expected an id that stands once"),
        (lambda d: d.update(clauses=[]), "clauses expected at least 1 of them; found none"),
        (lambda d: d.update(checked="23 November 2026"), "checked expected a day such as '2026-11-23'"),
        (lambda d: d.update(checked="1999-01-01"), "checked expected a day not before 2003-02-20"),
        (lambda d: d.update(published="long ago"), "published expected a text of the form"),
        (lambda d: d.update(author="me"), "author expected only keys of the schema affidavit/framework/1"),
        (lambda d: d.update(id="other"), "id expected 'hipaa', the name of the file"),
        (lambda d: d.update(schema="affidavit/framework/2"), "schema expected affidavit/framework/1"),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path: Path, change: Change, expected: str) -> None:
    """One error, with the file, its line and the field."""
    told = broken(tmp_path, change)
    assert expected in told
    assert re.search(r"hipaa\.yaml:\d+:", told)


EVIDENCE = {"kind": "features", "rungs": ["confirmed"], "contrasts": ["topic"]}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (EVIDENCE | {"rungs": ["associated"]}, "rungs expected of features only confirmed or causal; found associated"),
        (EVIDENCE | {"kind": "interventions"}, "rungs expected of interventions only causal; found confirmed"),
        (EVIDENCE | {"rungs": []}, "rungs expected at least 1 of them"),
        (EVIDENCE | {"contrasts": []}, "contrasts expected topic, distinction or both; found none"),
        (EVIDENCE | {"kind": "mixes"}, "contrasts expected none for mixes; found topic"),
        (EVIDENCE | {"domains": ["finance"]}, "domains expected domains of the framework: healthcare; found finance"),
        (EVIDENCE | {"kind": "labels"}, "kind expected 'features'"),
    ],
)
def test_selectors_cannot_reach_lower(tmp_path: Path, selector: dict[str, object], expected: str) -> None:
    """A clause cannot cite what was only associated, an intervention that showed nothing, or another domain."""
    told = broken(tmp_path, lambda data: clause(data)["supports"].update(findings=[selector]))
    assert f"clauses[0].supports.findings[0].{expected}" in told


@pytest.mark.parametrize("content", [b"a: [", b"a: 1\n--- \nb: 2", b"\xff\xfe"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error says that a framework file is meant."""
    path = tmp_path / "hipaa.yaml"
    path.write_bytes(content)
    with pytest.raises(FrameworkError, match=r"hipaa\.yaml"):
        read_framework(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It is not taken for an empty one."""
    with pytest.raises(FrameworkError, match="No such file"):
        read_framework(tmp_path / "hipaa.yaml")
