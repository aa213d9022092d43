"""Tables of labelled texts: read from a folder or a wheel, and a balanced sample whose halves share no text."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from audit.digests import digest_bytes
from audit.errors import CorpusError

TEXT, LABEL = "prompt", "target"
_SUFFIXES = (".csv.zst", ".csv")
# More labels than this are a measured quantity, not classes.
_MOST_CLASSES = 20
_FEWEST_TOKENS = 4

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A data set as its file says it.

    Args:
        name: of the file, without its suffix.
        digest: of the file's bytes as they were found, compressed or not.
        texts: one a row.
        positive: (n,) bool, whether a row has the positive label.
        positive_label: of two labels the last in alphabetical order, of more the commonest.
        other_label: the other one, or "any other".
    """

    name: str
    digest: str
    texts: tuple[str, ...]
    positive: Bools
    positive_label: str
    other_label: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a table to train and to test on, half of them positive in both; no text is in twice.

    Args:
        train: (n_train,) row numbers.
        test: (n_test,) row numbers.
        short: rows left out because their text has fewer than 4 tokens: the first is an attention sink and excluded.
        duplicates: rows left out because an earlier one has the same words and label.
        contradictory: rows left out because their words also occur with the other label.
    """

    train: Rows
    test: Rows
    short: int
    duplicates: int
    contradictory: int


def read_table(source: Path, name: str) -> TextTable:
    """Read one data set.

    Args:
        source: a wheel, or a folder that holds the file at any depth.
        name: of the file, without `.csv.zst` or `.csv`.

    Raises:
        CorpusError: the file is missing, no UTF-8 CSV, lacks a column, or its labels are one class or no classes.
    """
    path, data = _find(source, name)
    texts, labels = _parse(path, data)
    counts = Counter(labels)
    if not 2 <= len(counts) <= _MOST_CLASSES:
        raise CorpusError(
            item=f"column {LABEL!r} of {path}",
            expected=f"2 to {_MOST_CLASSES} classes",
            found=f"{len(counts)}: {', '.join(sorted(counts)[:4])}" if counts else "no row",
            hint="Give a classification data set with examples of both classes.",
        )
    # Equally common labels: the alphabet decides, not the order of the rows.
    chosen = max(counts) if len(counts) == 2 else min(counts, key=lambda label: (-counts[label], label))
    other = min(counts) if len(counts) == 2 else "any other"
    positive = np.array([label == chosen for label in labels])
    return TextTable(name, digest_bytes(data), texts, positive, chosen, other)


def draw_sample(
    table: TextTable, words: Sequence[str], tokens: Sequence[int], *, train: int, test: int, seed: int
) -> Sample:
    """Draw balanced, disjoint rows; the same for the same table, seed and sizes.

    Args:
        table: the data set.
        words: by row, what makes two texts the same one. These data sets repeat rows to balance their classes, and no
            text may be trained and tested on.
        tokens: by row, how many tokens its text has.
        train: rows to train on, even.
        test: rows to test on, even.
        seed: of the draw, together with the table's name.

    Raises:
        CorpusError: a class has too few different texts.
    """
    long_enough = [row for row, count in enumerate(tokens) if count >= _FEWEST_TOKENS]
    labels: dict[str, set[bool]] = {}
    for row in long_enough:
        labels.setdefault(words[row], set()).add(bool(table.positive[row]))
    clear = [row for row in long_enough if len(labels[words[row]]) == 1]
    first = {words[row]: row for row in reversed(clear)}
    rng = np.random.default_rng([seed, *table.name.encode()])
    halves: list[tuple[Rows, Rows]] = []
    for label, name in ((True, table.positive_label), (False, table.other_label)):
        rows = np.array(sorted(row for row in first.values() if table.positive[row] == label), dtype=np.int64)
        if len(rows) < (train + test) // 2:
            raise CorpusError(
                item=f"class {name!r} of {table.name}",
                expected=f"{(train + test) // 2} different texts",
                found=f"{len(rows)}",
                hint="Ask for fewer texts, or leave the data set out.",
            )
        drawn = rng.permutation(rows)[: (train + test) // 2]
        halves.append((drawn[: train // 2], drawn[train // 2 :]))
    return Sample(
        train=np.concatenate([half[0] for half in halves]),
        test=np.concatenate([half[1] for half in halves]),
        short=len(table.texts) - len(long_enough),
        duplicates=len(clear) - len(first),
        contradictory=len(long_enough) - len(clear),
    )


def _find(source: Path, name: str) -> tuple[str, bytes]:
    """Return the path and the bytes of a data set's file."""
    try:
        found = dict(_candidates(source, name))
        for suffix in _SUFFIXES:
            if suffix in found:
                return found[suffix]
    except (OSError, zipfile.BadZipFile) as error:
        raise CorpusError(
            item=str(source), expected="a readable folder or wheel", found=str(error), hint="Check the path."
        ) from error
    raise CorpusError(
        item=f"data set {name!r}",
        expected=f"{name}{_SUFFIXES[0]} or {name}{_SUFFIXES[1]} in {source.name}",
        found="no such file",
        hint="Give the wheel of sae-probes, or the folder that it unpacks to.",
    )


def _candidates(source: Path, name: str) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Yield by suffix the files of that name; a later one of the same suffix wins, so that order is sorted."""
    wanted = {f"{name}{suffix}": suffix for suffix in _SUFFIXES}
    if source.is_dir():
        for path in sorted(source.rglob("*.csv*"), reverse=True):
            if path.name in wanted:
                yield wanted[path.name], (str(path), path.read_bytes())
        return
    with zipfile.ZipFile(source) as archive:
        for member in sorted(archive.namelist(), reverse=True):
            if (file := member.rpartition("/")[2]) in wanted:
                yield wanted[file], (f"{source.name}/{member}", archive.read(member))


def _parse(path: str, data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return texts and labels as they are written: no cell is taken for a number or for a gap."""
    try:
        plain = pa.input_stream(io.BytesIO(data), compression="zstd").read() if path.endswith(".zst") else data
        frame = pd.read_csv(io.BytesIO(plain), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise CorpusError(
            item=path, expected="a CSV file in UTF-8", found=str(error)[:200], hint="Fetch the file again."
        ) from error
    if missing := [column for column in (TEXT, LABEL) if column not in frame.columns]:
        raise CorpusError(
            item=path,
            expected=f"columns {TEXT!r} and {LABEL!r}",
            found=f"no {' and no '.join(missing)} among {', '.join(map(str, frame.columns))}",
            hint=f"Name the column of texts {TEXT!r} and that of classes {LABEL!r}.",
        )
    return tuple(frame[TEXT]), tuple(frame[LABEL])
