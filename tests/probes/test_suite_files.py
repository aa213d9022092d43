"""Broken suites are refused: every violation at once, with file, line and field."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.errors import SuiteError
from probes.loader import load_suite, load_suites
from probes.schema import FEWEST_IN_SPLIT
from probes.yaml_source import MOST_BYTES

Change = Callable[[Any], None]
CONCEPT = "insider_trading.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small suite of one concept and one mix that a test may break."""
    target = tmp_path / "bank"
    shutil.copytree(Path(str(files("probes.suites"))) / "finance", target)
    for path in target.glob("*.yaml"):
        if path.name not in ("suite.yaml", CONCEPT, "money_laundering.yaml"):
            path.unlink()
    mix = {
        "schema": "affidavit/mix/1",
        "id": "both",
        "title": "Both",
        "language": "en",
        "concepts": ["insider_trading", "money_laundering"],
        "placebo": {"title": "Gardening", "definition": "Garden work."},
        "why": "They meet.",
        "scenarios": [mix_scenario(number) for number in range(16)],
    }
    (target / "both.yaml").write_text(yaml.safe_dump(mix))
    edit(
        target / "suite.yaml",
        lambda data: data.update(concepts=["insider_trading", "money_laundering"], mixes=["both"], subsets={}),
    )
    return target


def mix_scenario(number: int) -> dict[str, str]:
    """Return a mix scenario of five sentences."""
    clauses = {name: f"Sentence {name} {number}." for name in ("a", "a_filler", "b", "b_filler", "placebo")}
    return {"id": f"both-{number}", "split": "discovery" if number < 8 else "confirmation", **clauses}


def edit(path: Path, change: Change) -> None:
    """Change a YAML file."""
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def line_with(path: Path, text: str, *, nth: int = 1) -> int:
    """Return the number of the n-th line that holds a text."""
    return [n for n, line in enumerate(path.read_text().splitlines(), start=1) if text in line][nth - 1]


def test_the_fixture_loads(folder: Path) -> None:
    """What the other tests break is sound."""
    suite = load_suite(str(folder))
    assert [concept.id for concept in suite.concepts] == ["insider_trading", "money_laundering"]
    assert [mix.id for mix in suite.mixes] == ["both"]


def set_arm(arm: str, value: object) -> Change:
    """Return a change of one arm of the fourth scenario."""
    return lambda data: data["scenarios"][3]["arms"].update({arm: value})


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        (lambda d: d["scenarios"][1].update(id="fin-insider-001"), "scenarios[1].id", "'fin-insider-001' again"),
        (lambda d: d["scenarios"][3]["arms"].pop("control"), "scenarios[3].arms.control", "the key is missing"),
        (lambda d: d["scenarios"][3].update(split="test"), "scenarios[3].split", "'test'"),
        (lambda d: d.update(treshold=1), "treshold", "the unknown key 'treshold'"),
        (lambda d: d["outcome"].update(target=True), "outcome.target", "True (bool, without quotes)"),
        (lambda d: d["outcome"].update(template="no slot"), "outcome.template", "'no slot'"),
        (lambda d: d.update(scenarios=[]), "scenarios", "none"),
        (lambda d: d.update(scenarios="all"), "scenarios", "'all'"),
        (lambda d: d.update(rules=[]), "rules", "none"),
        (lambda d: d.update(id="another"), "id", "'another'"),
        (lambda d: d.update(id="../insider"), "id", "'../insider'"),
        (lambda d: d.update(domain="defense"), "domain", "'defense'"),
        (lambda d: d.update(language="de"), "language", "'de'"),
        (lambda d: d.update(language="English"), "language", "'English'"),
        (lambda d: d.update(schema="affidavit/concept/9"), "schema", "'affidavit/concept/9'"),
        (lambda d: d.pop("schema"), "schema", "the key is missing"),
        (set_arm("control", ""), "scenarios[3].arms.control", "an empty one"),
        (set_arm("control", 7), "scenarios[3].arms.control", "7 (int, without quotes)"),
        (set_arm("kontrol", "A text."), "scenarios[3].arms.kontrol", "the unknown key 'kontrol'"),
        (lambda d: d.update(scenarios=d["scenarios"][: 40 + FEWEST_IN_SPLIT - 1]), "scenarios", "5"),
    ],
)
def test_a_violation_names_file_line_and_field(folder: Path, change: Change, field: str, found: str) -> None:
    """Each defect is told once, at its place."""
    edit(folder / CONCEPT, change)
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    (line,) = caught.value.found.split("\n")
    place, _, rest = line.partition(f": {field} expected ")
    assert place.startswith(f"{folder / CONCEPT}:")
    assert int(place.rpartition(":")[2]) >= 1
    assert found in rest


def test_the_line_is_that_of_the_value(folder: Path) -> None:
    """An editor can jump there."""
    path = folder / CONCEPT
    edit(path, lambda d: d["scenarios"][3].update(split="test"))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert f"{path}:{line_with(path, 'split: test')}: " in caught.value.found


def test_all_violations_of_all_files_are_told_at_once(folder: Path) -> None:
    """Nobody mends a suite one error a run."""
    edit(folder / CONCEPT, set_arm("control", ""))
    edit(folder / "money_laundering.yaml", lambda d: d["scenarios"][0].update(split="x") or d.update(why=3))
    edit(folder / "both.yaml", lambda d: d["scenarios"][2].pop("placebo"))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert len(caught.value.found.split("\n")) == 4
    assert "4 violations" in caught.value.item


def test_many_violations_are_cut_with_their_number(folder: Path) -> None:
    """A wrong arm name in every scenario does not fill the screen."""

    def rename(data: Any) -> None:
        for scenario in data["scenarios"]:
            scenario["arms"]["kontrol"] = scenario["arms"].pop("control")

    edit(folder / CONCEPT, rename)
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert caught.value.found.endswith("and 78 more")


def test_a_scenario_id_of_another_file_is_refused(folder: Path) -> None:
    """An id is unique in the suite, and both places are named."""
    edit(folder / "money_laundering.yaml", lambda d: d["scenarios"][0].update(id="fin-insider-005"))
    with pytest.raises(SuiteError, match="1 violation") as caught:
        load_suite(str(folder))
    assert "'fin-insider-005' again, first in " in caught.value.found
    assert f"{folder / CONCEPT}:" in caught.value.found


def test_a_mix_of_an_unknown_concept_is_refused(folder: Path) -> None:
    """The mix, the unknown id and the known ones are named."""
    edit(folder / "both.yaml", lambda d: d.update(concepts=["insider_trading", "tax_fraud"]))
    with pytest.raises(SuiteError, match="mix both") as caught:
        load_suites([str(folder)])
    assert caught.value.found == "tax_fraud"
    assert "money_laundering" in caught.value.expected


def test_a_mix_of_a_concept_with_itself_is_refused(folder: Path) -> None:
    """Two factors, not one."""
    edit(folder / "both.yaml", lambda d: d.update(concepts=["insider_trading", "insider_trading"]))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "'insider_trading' twice" in caught.value.found


def test_a_subset_of_unknown_parts_is_refused(folder: Path) -> None:
    """A demo that names a concept which is not there would silently be smaller."""
    edit(folder / "suite.yaml", lambda d: d.update(subsets={"demo": {"concepts": ["insider"], "mixes": ["none"]}}))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "subsets.demo.concepts[0]" in caught.value.found
    assert "subsets.demo.mixes[0]" in caught.value.found


def test_a_subset_is_a_part_with_the_digest_of_the_whole(folder: Path) -> None:
    """The named concepts, in file order, and the name in the record."""
    edit(folder / "suite.yaml", lambda d: d.update(subsets={"quick": {"concepts": ["money_laundering"]}}))
    (whole,) = load_suites([str(folder)])
    (part,) = load_suites([str(folder)], subset="quick")
    assert [concept.id for concept in part.concepts] == ["money_laundering"]
    assert part.mixes == ()
    assert (part.subset, part.digest) == ("quick", whole.digest)
    with pytest.raises(SuiteError, match="slow") as caught:
        load_suites([str(folder)], subset="slow")
    assert "quick" in caught.value.expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"id: \xff\xfe\n", "byte 0xff at offset 4"),
        (b"id: [1, 2\n", "did not find expected"),
        (b"id: 1\n--- \nid: 2\n", "a second document"),
        (b"id: " + b"[" * 200 + b"]" * 200, "more than 10 levels"),
        (b"? [a, b]\n: 1\n", "a key that is no word"),
        (b"id: \x01\n", "control characters"),
        (b"", "None"),
        (b"- 1\n- 2\n", "[1, 2]"),
        (b"x" * (MOST_BYTES + 1), f"{MOST_BYTES + 1:,}"),
    ],
    ids=["encoding", "syntax", "documents", "nesting", "key", "control", "empty", "list", "size"],
)
def test_what_is_no_suite_file_is_refused(folder: Path, text: bytes, found: str) -> None:
    """One error that names the file and what was met."""
    (folder / CONCEPT).write_bytes(text)
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert CONCEPT in str(caught.value)
    assert found in caught.value.found


def test_a_hundred_megabytes_are_refused_unread(folder: Path) -> None:
    """The size is looked at first: a sparse file of 100 MB costs nothing."""
    with (folder / CONCEPT).open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert caught.value.found == "100,000,000"


def test_a_bomb_of_aliases_is_refused(folder: Path) -> None:
    """Anchors and aliases are never followed, so nine levels of nine cannot grow."""
    levels = ['a0: &a0 ["x"]'] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (folder / CONCEPT).write_text("\n".join(levels))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "the anchor &a0" in caught.value.found
    assert "the alias *a0" in caught.value.found


def test_a_tag_is_refused(folder: Path) -> None:
    """No object is ever built from a file."""
    (folder / CONCEPT).write_text('id: !!python/object/apply:os.system ["true"]\n')
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "the tag tag:yaml.org,2002:python/object/apply:os.system" in caught.value.found


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    """YAML would keep the last one silently."""
    path = folder / "suite.yaml"
    path.write_text(path.read_text() + "\nid: other\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "the key given twice" in caught.value.found
    assert f"suite.yaml:{line_with(path, 'id: other')}: id" in caught.value.found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("title: 0x" + "f" * 5000, "(int, without quotes)"),
        ("title: 1" + ":59" * 3000, "(int, without quotes)"),
        ("title: 2026-13-45", "(timestamp, without quotes)"),
        ("title: ~", "~ (null, without quotes)"),
        ("title: 'x'\n&a why: 'y'", "the anchor &a"),
        ("title: 'x'\n!!int 'why': 'y'", "the tag tag:yaml.org,2002:int"),
    ],
)
def test_odd_scalars_and_keys_are_violations(folder: Path, line: str, found: str) -> None:
    """Nothing is converted, so nothing overflows; marks on keys are refused as on values."""
    (folder / CONCEPT).write_text("schema: affidavit/concept/1\n" + line + "\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert found in caught.value.found


@pytest.mark.parametrize("odd", ["=", "<<"])
def test_odd_texts_are_texts(folder: Path, odd: str) -> None:
    """YAML's own signs mean nothing as a value here."""
    path = folder / "suite.yaml"
    path.write_text(path.read_text().replace("title: Finance", f"title: {odd}"))
    assert load_suite(str(folder)).title == odd


def test_a_salt_alone_withholds_nothing(folder: Path) -> None:
    """Refused in both directions: neither may be forgotten."""
    edit(folder / "suite.yaml", lambda d: d.update(salt="0" * 32))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "a salt alone, which withholds nothing" in caught.value.found
    edit(folder / "suite.yaml", lambda d: d.pop("salt") and d.update(withheld=True))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "a secret salt" in caught.value.found


def test_a_folder_named_like_a_shipped_suite_is_ambiguous(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is taken silently."""
    folder.rename(folder.parent / "finance")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(SuiteError, match="finance") as caught:
        load_suite("finance")
    assert "./finance" in caught.value.hint
    assert load_suite("./finance").mixes


def test_an_empty_subset_is_refused(folder: Path) -> None:
    """An audit of nothing must not look like a pass."""
    edit(folder / "suite.yaml", lambda d: d.update(subsets={"demo": {}}))
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "subsets.demo" in caught.value.found


def test_a_missing_concept_file_is_named(folder: Path) -> None:
    """The name in suite.yaml without a file."""
    (folder / CONCEPT).unlink()
    (folder / "both.yaml").unlink()
    with pytest.raises(SuiteError, match="2 violations") as caught:
        load_suite(str(folder))
    assert f"concepts[0] expected the file {CONCEPT}" in caught.value.found
    assert "mixes[0] expected the file both.yaml" in caught.value.found


def test_an_empty_suite_is_refused(folder: Path) -> None:
    """A suite without concepts can audit nothing and must not look like a pass."""
    edit(folder / "suite.yaml", lambda data: data.update(concepts=[], mixes=[]))
    with pytest.raises(SuiteError, match="suite"):
        load_suite(str(folder))
