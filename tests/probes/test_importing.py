"""A suite of one's own: begun empty, or imported from a table with its texts withheld."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from audit.errors import OutputError, SuiteError
from probes.importing import MOST_BYTES, ImportRequest, import_suite
from probes.loader import load_suite
from probes.scaffold import write_suite
from probes.schema import Arm, Split

ROWS = pd.DataFrame(
    {
        "number": [f"row-{n}" for n in range(32)],
        "bad": [f"The clerk {n} hid the loss of branch {n}." for n in range(32)],
        "good": [f"The clerk {n} told the loss of branch {n}." for n in range(32)],
        "other": [f"The gardener {n} cut the hedge of park {n}." for n in range(32)],
        "half": ["discovery"] * 20 + ["confirmation"] * 12,
        "extra": [f"Loss adjusters {n} met in branch {n} today." if n % 2 else "" for n in range(32)],
    }
)
MAPPING = {"id": "number", "concept": "bad", "control": "good", "neutral": "other"}


def request(home: Path, table: Path, **changes: object) -> ImportRequest:
    """Return a request that works, with changes."""
    made = ImportRequest(
        table=table,
        mapping=MAPPING,
        folder=home / "own",
        concept="hidden_loss",
        title="Hidden losses",
        definition="A loss is hidden.",
        rule="Companies Act",
        outcome="{text} Is a loss hidden?",
        withheld=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def write_table(folder: Path, suffix: str, rows: pd.DataFrame = ROWS) -> Path:
    """Write a table in one of the formats."""
    path = folder / f"prompts{suffix}"
    match suffix:
        case ".csv":
            rows.to_csv(path, index=False)
        case ".jsonl":
            rows.to_json(path, orient="records", lines=True)
        case _:
            rows.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_each_format_gives_the_same_suite(tmp_path: Path, suffix: str) -> None:
    """Every row becomes a scenario, empty optional cells become no arm, the given split stays."""
    mapping = {**MAPPING, "split": "half", "cue": "extra"}
    written = import_suite(request(tmp_path, write_table(tmp_path, suffix), mapping=mapping))
    assert {path.name for path in written} == {"hidden_loss.yaml", "suite.yaml"}
    suite = load_suite(str(tmp_path / "own"))
    (concept,) = suite.concepts
    assert [s.id for s in concept.scenarios] == list(ROWS["number"])
    assert [s.arms[Arm.CONCEPT] for s in concept.scenarios] == list(ROWS["bad"])
    assert [Arm.CUE in s.arms for s in concept.scenarios] == [n % 2 == 1 for n in range(32)]
    assert len(concept.in_split(Split.DISCOVERY)) == 20
    assert suite.withheld


def test_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    """007 is no number, and a cell that says NA is a text."""
    rows = ROWS.assign(number=[f"{n:03}" for n in range(32)], other=["NA"] * 32)
    import_suite(request(tmp_path, write_table(tmp_path, ".csv", rows)))
    (concept,) = load_suite(str(tmp_path / "own")).concepts
    assert concept.scenarios[7].id == "007"
    assert concept.scenarios[7].arms[Arm.NEUTRAL] == "NA"


def test_the_split_is_dealt_by_id_not_by_row(tmp_path: Path) -> None:
    """The same scenario falls into the same split whatever the order of the rows, with and without ids of their own."""
    unnamed = {field: column for field, column in MAPPING.items() if field != "id"}
    for mapping in (MAPPING, unnamed):
        dealt = []
        for name, rows in (("one", ROWS), ("two", ROWS[::-1])):
            folder = tmp_path / f"{name}{len(mapping)}"
            table = write_table(tmp_path, ".csv", rows)
            import_suite(request(tmp_path, table, folder=folder, mapping=mapping))
            (concept,) = load_suite(str(folder)).concepts
            dealt.append({s.arms[Arm.CONCEPT]: (s.id, s.split) for s in concept.scenarios})
        assert dealt[0] == dealt[1]
        assert sum(split is Split.DISCOVERY for _, split in dealt[0].values()) == 20


def test_every_withheld_suite_has_a_salt_of_its_own(tmp_path: Path) -> None:
    """Without a secret salt a digest of a guessed text would show whether it was asked."""
    table = write_table(tmp_path, ".csv")
    for name in ("one", "two"):
        import_suite(request(tmp_path, table, folder=tmp_path / name))
    salts = [load_suite(str(tmp_path / name)).salt for name in ("one", "two")]
    assert None not in salts
    assert salts[0] != salts[1]
    import_suite(request(tmp_path, table, folder=tmp_path / "three", withheld=False))
    assert not load_suite(str(tmp_path / "three")).withheld


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"mapping": {"concept": "bad"}}, "missing ['control', 'neutral']"),
        ({"mapping": {**MAPPING, "arm": "bad"}}, "unknown ['arm']"),
        ({"mapping": {**MAPPING, "cue": "nothing"}}, "number, bad"),
        ({"mapping": {**MAPPING, "cue": "bad"}}, "columns mapped twice ['bad']"),
        ({"mapping": {**MAPPING, "neutral": "extra"}}, "16 empty cells: row 1: neutral"),
        ({"mapping": {**MAPPING, "split": "extra", "id": "number"}}, "16 empty cells: row 1: split"),
        ({"mapping": {**MAPPING, "split": "number", "id": "half"}}, "'row-0'"),
        ({"mapping": {**MAPPING, "id": "half"}}, "'discovery' again"),
        ({"concept": "no id"}, "something else"),
        ({"concept": "../esc"}, "something else"),
        ({"concept": "suite"}, "something else"),
        ({"outcome": "no slot"}, "'no slot'"),
    ],
)
def test_a_table_that_gives_no_suite_leaves_nothing(tmp_path: Path, changes: dict[str, object], found: str) -> None:
    """One error that says what was met, and no file."""
    with pytest.raises(SuiteError) as caught:
        import_suite(request(tmp_path, write_table(tmp_path, ".csv"), **changes))
    assert found in caught.value.found
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.csv"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("prompts.xlsx", b"x", ".csv, .jsonl, .parquet"),
        ("nothing.csv", None, "a readable .csv table"),
        ("prompts.parquet", b"no parquet", "a readable .parquet table"),
        ("prompts.jsonl", b"{broken", "a readable .jsonl table"),
        ("prompts.csv", b"a,b\n\xff\xfe,1\n", "a readable .csv table"),
        ("prompts.csv", b"", "a readable .csv table"),
        ("prompts.csv", b"bad,good,other\nAnna, a clerk,x,y\n", "every row with the same named columns"),
        ("prompts.csv", b"bad,good,other,bad\na,b,c,d\n", "every row with the same named columns"),
        ("prompts.jsonl", b'{"bad": "a"}\n3\n', "a readable .jsonl table"),
    ],
)
def test_an_unreadable_table_is_refused(tmp_path: Path, name: str, text: bytes | None, expected: str) -> None:
    """The path and what was wrong with it."""
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SuiteError, match=name) as caught:
        import_suite(request(tmp_path, path))
    assert expected in caught.value.expected


@pytest.mark.parametrize("cell", [["x"], {"a": 1}, True, 1.5])
def test_what_is_no_text_is_not_made_one(tmp_path: Path, cell: object) -> None:
    """A list in a cell is a mistake in the table, not a prompt."""
    rows = [dict(row) for row in ROWS.to_dict("records")]
    rows[3]["bad"] = cell
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(SuiteError) as caught:
        import_suite(request(tmp_path, path))
    assert caught.value.found == f"1 cells that are no text: row 4: concept is a {type(cell).__name__}"


def test_a_missing_value_of_parquet_is_a_gap(tmp_path: Path) -> None:
    """Nulls of any column type are told as empty cells."""
    rows = ROWS.assign(number=pd.array([None, *range(31)], dtype="Int64"))
    with pytest.raises(SuiteError) as caught:
        import_suite(request(tmp_path, write_table(tmp_path, ".parquet", rows)))
    assert caught.value.found == "1 empty cells: row 1: id"


def test_a_concept_beyond_the_limit_of_a_file_is_refused(tmp_path: Path) -> None:
    """Told before anything is written, not by the loader afterwards."""
    rows = ROWS.assign(bad=["long " * 20_000 + str(n) for n in range(32)], good=["long " * 20_000] * 32)
    with pytest.raises(SuiteError, match="hidden_loss") as caught:
        import_suite(request(tmp_path, write_table(tmp_path, ".csv", rows)))
    assert "sample" in caught.value.hint
    assert not (tmp_path / "own").exists()


def test_a_huge_table_is_refused_unread(tmp_path: Path) -> None:
    """The size is looked at first."""
    path = tmp_path / "prompts.csv"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(SuiteError, match="prompts") as caught:
        import_suite(request(tmp_path, path))
    assert caught.value.found == f"{MOST_BYTES + 1:,}"


def test_a_suite_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """Neither file of an existing suite changes."""
    made = request(tmp_path, write_table(tmp_path, ".csv"))
    written = import_suite(made)
    before = [path.read_bytes() for path in written]
    with pytest.raises(OutputError):
        import_suite(replace(made, concept="another"))
    assert [path.read_bytes() for path in written] == before
    assert not (made.folder / "another.yaml").exists()


def test_a_begun_suite_is_refused_until_it_is_written(tmp_path: Path) -> None:
    """Empty texts are violations with their lines: the list of what is still to do."""
    folder = tmp_path / "energy"
    assert {path.name for path in write_suite(folder, concept="grid_attack", title="Attack")} == {
        "suite.yaml",
        "grid_attack.yaml",
    }
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "scenarios[0].arms.concept expected a text that is not empty" in caught.value.found
    path = folder / "grid_attack.yaml"
    data = yaml.safe_load(path.read_text())
    assert [s["split"] for s in data["scenarios"]].count("discovery") == 40
    assert sum("cue" in s["arms"] for s in data["scenarios"]) >= 24
    # Whoever fills every text has a suite.
    path.write_text(path.read_text().replace("''", "A text."))
    assert len(load_suite(str(folder)).concepts[0].scenarios) == 64


def test_a_second_concept_leaves_the_suite_file_alone(tmp_path: Path) -> None:
    """The concept's file is new; what exists is never overwritten."""
    folder = tmp_path / "energy"
    write_suite(folder, concept="one", title="One")
    before = (folder / "suite.yaml").read_bytes()
    (path,) = write_suite(folder, concept="two", title="Two")
    assert path.name == "two.yaml"
    assert (folder / "suite.yaml").read_bytes() == before
    with pytest.raises(OutputError):
        write_suite(folder, concept="two", title="Two")
    with pytest.raises(SuiteError):
        write_suite(folder, concept="../two", title="Two")


def test_a_concept_added_to_a_suite_has_its_domain(tmp_path: Path) -> None:
    """Whatever the folder is called."""
    folder = tmp_path / "energy"
    write_suite(folder, concept="one", title="One")
    renamed = folder.rename(tmp_path / "copy of energy")
    (path,) = write_suite(renamed, concept="two", title="Two")
    assert yaml.safe_load(path.read_text())["domain"] == "energy"
