"""Turn a table of prompts into a suite: CSV, JSON Lines or Parquet, a column for each part of a scenario."""

from __future__ import annotations

import csv
import json
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from audit.digests import digest_bytes
from audit.errors import SuiteError
from probes.loader import SUITE_FILE, load_suite
from probes.scaffold import require_identifiers, suite_document, write_documents
from probes.schema import CONCEPT_SCHEMA, Arm, Split

REQUIRED = (Arm.CONCEPT.value, Arm.CONTROL.value, Arm.NEUTRAL.value)
FIELDS = ("id", "split", *(arm.value for arm in Arm))
MOST_BYTES = 20_000_000
# 40 of 64, as in the shipped suites.
_DISCOVERY_SHARE = 0.625
_NAMED_GAPS = 10

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A table and what becomes of it.

    Args:
        table: a .csv, .jsonl or .parquet file, one row a scenario.
        mapping: field -> column; the fields are `FIELDS`. Without `id`, scenarios are named by the digest of their
            texts; without `split`, they are dealt by the rank of their id's digest, 5 of 8 to discovery.
        folder: the suite's folder, which must not hold one.
        concept: id of the concept that the rows are about.
        title: its title.
        definition: what the concept means.
        rule: the law or standard that makes it sensitive.
        outcome: a question with {text} that is answered Yes for the concept, or None.
        withheld: keep the texts out of bundles and reports. Imported prompts may hold what nobody may publish, so that
            is the rule, and printing them is the exception.
    """

    table: Path
    mapping: Mapping[str, str]
    folder: Path
    concept: str
    title: str
    definition: str
    rule: str
    outcome: str | None
    withheld: bool


def import_suite(request: ImportRequest) -> tuple[Path, ...]:
    """Write the suite that a table describes, after reading it back from a temporary folder.

    Returns:
        The files written.

    Raises:
        SuiteError: the table cannot be read, lacks a column, has empty cells or cells that are no text, or gives a
            suite that breaks the schema; nothing is written.
        OutputError: the folder holds such files, or cannot be written.
    """
    domain = request.folder.resolve().name
    require_identifiers(folder=domain, concept=request.concept)
    suite = suite_document(domain, concept=request.concept)
    if request.withheld:
        suite |= {"withheld": True, "salt": secrets.token_hex(16)}
    concept: dict[str, object] = {
        "schema": CONCEPT_SCHEMA,
        "id": request.concept,
        "domain": domain,
        "title": request.title,
        "language": "en",
        "definition": request.definition,
        "rules": [{"name": request.rule, "clause": "named at import"}],
        "why": f"Imported from {request.table.name}.",
        "scenarios": _scenarios(_read_table(request.table), request),
    }
    if request.outcome is not None:
        concept["outcome"] = {"template": request.outcome, "target": "Yes", "foil": "No"}
    documents = {f"{request.concept}.yaml": concept, SUITE_FILE: suite}
    with tempfile.TemporaryDirectory() as temporary:
        trial = Path(temporary) / domain
        write_documents({trial / name: document for name, document in documents.items()})
        load_suite(str(trial))
    written = {request.folder / name: document for name, document in documents.items()}
    write_documents(written)
    return tuple(written)


def _read_table(path: Path) -> list[Row]:
    readers = {".csv": _read_csv, ".jsonl": _read_lines, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SuiteError(
            item=str(path),
            expected=f"a file that ends in {', '.join(readers)}",
            found=path.suffix or "no ending",
            hint="Save the table in one of these formats.",
        )
    try:
        size = path.stat().st_size
        if size <= MOST_BYTES:
            return reader(path)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise SuiteError(
            item=str(path),
            expected=f"a readable {path.suffix} table in UTF-8, every row with the same named columns",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="Check the path and the format.",
        ) from error
    raise SuiteError(
        item=str(path),
        expected=f"at most {MOST_BYTES:,} bytes",
        found=f"{size:,}",
        hint="Take a sample of the rows: a few hundred scenarios are enough for any test.",
    )


def _read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    if not rows:
        raise ValueError("an empty file")
    header = _unrepeated(rows[0])
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} with {len(row)} cells under {len(header)} columns")
    return [dict(zip(header, row, strict=True)) for row in rows[1:]]


def _read_lines(path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        row = json.loads(line) if line.strip() else {}
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object")  # noqa: TRY004 - one error for all that is no table
        rows += [row] if row else []
    return rows


def _read_parquet(path: Path) -> list[Row]:
    table = pa.parquet.read_table(path)
    _unrepeated(table.column_names)
    found: list[Row] = table.to_pylist()
    return found


def _unrepeated(names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"the column {', '.join(repeated)} twice")
    return names


def _scenarios(rows: Sequence[Row], request: ImportRequest) -> list[dict[str, object]]:
    _check_mapping(rows, request)
    named = [{field: row.get(column) for field, column in request.mapping.items()} for row in rows]
    _refuse_cells(named, request)
    texts = [{name: str(cell).strip() for name, cell in row.items() if not _is_gap(cell)} for row in named]
    ids = [row["id"] if "id" in row else _named_by_texts(row, request.concept) for row in texts]
    splits = [row["split"] for row in texts] if "split" in request.mapping else _dealt(ids)
    return [
        {"id": identity, "split": split, "arms": {arm.value: row[arm.value] for arm in Arm if arm.value in row}}
        for identity, split, row in zip(ids, splits, texts, strict=True)
    ]


def _check_mapping(rows: Sequence[Row], request: ImportRequest) -> None:
    mapping = dict(request.mapping)
    unknown = sorted(set(mapping) - set(FIELDS))
    missing = [field for field in REQUIRED if field not in mapping]
    twice = sorted({column for column in mapping.values() if list(mapping.values()).count(column) > 1})
    if unknown or missing or twice:
        raise SuiteError(
            item="mapping",
            expected=f"{', '.join(REQUIRED)}, and any of {', '.join(f for f in FIELDS if f not in REQUIRED)}",
            found=f"unknown {unknown}, missing {missing}, columns mapped twice {twice}",
            hint="Give --map FIELD=COLUMN for each.",
        )
    columns = list(dict.fromkeys(column for row in rows for column in row))
    absent = [column for column in mapping.values() if column not in columns]
    if absent:
        raise SuiteError(
            item=f"{request.table}: columns",
            expected=", ".join(absent),
            found=", ".join(columns) or "no rows",
            hint="Correct the mapping.",
        )


def _refuse_cells(named: Sequence[Row], request: ImportRequest) -> None:
    """Refuse gaps in what every scenario needs, and cells that would become texts only by being converted."""
    gaps, others = [], []
    for number, row in enumerate(named, start=1):
        for field, cell in row.items():
            whole = isinstance(cell, int) and not isinstance(cell, bool) and field == "id"
            if _is_gap(cell):
                gaps += [f"row {number}: {field}"] if field not in (Arm.CUE.value, Arm.CUE_FREE.value) else []
            elif not (isinstance(cell, str) or whole):
                others.append(f"row {number}: {field} is a {type(cell).__name__}")
    for cells, what in ((gaps, "empty cells"), (others, "cells that are no text")):
        if cells:
            more = " ..." if len(cells) > _NAMED_GAPS else ""
            raise SuiteError(
                item=str(request.table),
                expected="a text in every mapped column, optional for cue and cue_free",
                found=f"{len(cells)} {what}: {', '.join(cells[:_NAMED_GAPS])}{more}",
                hint="Mend the cells, or leave those rows out.",
            )


def _is_gap(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _named_by_texts(row: Mapping[str, str], concept: str) -> str:
    """Return an id from what the scenario says, so that it stays when rows are reordered."""
    said = "\n".join(f"{arm.value}: {row[arm.value]}" for arm in Arm if arm.value in row)
    return f"{concept}-{digest_bytes(said.encode())[7:17]}"


def _dealt(ids: Sequence[str]) -> list[str]:
    """Deal scenarios to the splits by the rank of their id's digest: the order of rows decides nothing."""
    order = sorted(range(len(ids)), key=lambda number: digest_bytes(ids[number].encode()))
    first = set(order[: round(_DISCOVERY_SHARE * len(ids))])
    return [(Split.DISCOVERY if number in first else Split.CONFIRMATION).value for number in range(len(ids))]
