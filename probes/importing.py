"""Turn a table of prompts into a suite: CSV, JSON Lines or Parquet, a column for each part of a scenario."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audit.digests import digest_bytes
from audit.errors import SuiteError
from probes.loader import SUITE_FILE, load_suite
from probes.scaffold import suite_document, write_documents
from probes.schema import CONCEPT_SCHEMA, Arm, Split

REQUIRED = (Arm.CONCEPT.value, Arm.CONTROL.value, Arm.NEUTRAL.value)
FIELDS = ("id", "split", *(arm.value for arm in Arm))
MOST_BYTES = 200_000_000
# 40 of 64, as in the shipped suites.
_DISCOVERY_SHARE = 0.625


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def _read_lines(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True, dtype=False, convert_dates=False, encoding="utf-8")


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


_READERS = {".csv": _read_csv, ".jsonl": _read_lines, ".parquet": _read_parquet}


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A table and what becomes of it.

    Args:
        table: a .csv, .jsonl or .parquet file, one row a scenario.
        mapping: field -> column; the fields are `FIELDS`. Without `id`, rows are numbered; without `split`, scenarios
            are dealt by the digest of their id, 5 of 8 to discovery.
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
    """Write the suite that a table describes, and read it back.

    Returns:
        The files written.

    Raises:
        SuiteError: the table cannot be read, lacks a column, has empty cells, or gives a suite that breaks the schema;
            nothing is written.
        OutputError: the folder holds such files, or cannot be written.
    """
    rows = _scenarios(_read_table(request.table), request)
    domain = request.folder.resolve().name
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
        "scenarios": rows,
    }
    if request.outcome is not None:
        concept["outcome"] = {"template": request.outcome, "target": "Yes", "foil": "No"}
    documents = {request.folder / f"{request.concept}.yaml": concept, request.folder / SUITE_FILE: suite}
    write_documents(documents)
    try:
        load_suite(str(request.folder.resolve()))
    except SuiteError:
        for path in documents:
            path.unlink()
        raise
    return tuple(documents)


def _read_table(path: Path) -> pd.DataFrame:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SuiteError(
            item=str(path),
            expected=f"a file that ends in {', '.join(_READERS)}",
            found=path.suffix or "no ending",
            hint="Save the table in one of these formats.",
        )
    try:
        size = path.stat().st_size
        table = reader(path) if size <= MOST_BYTES else None
    except (OSError, ValueError, UnicodeError) as error:
        raise SuiteError(
            item=str(path),
            expected=f"a readable {path.suffix} table in UTF-8",
            found=str(error).splitlines()[0],
            hint="Check the path and the format.",
        ) from error
    if table is None:
        raise SuiteError(
            item=str(path),
            expected=f"at most {MOST_BYTES / 1e6:g} MB",
            found=f"{size / 1e6:.0f} MB",
            hint="Take a sample of the rows: a few hundred scenarios are enough for any test.",
        )
    return table


def _scenarios(table: pd.DataFrame, request: ImportRequest) -> list[dict[str, object]]:
    mapping = dict(request.mapping)
    unknown = sorted(set(mapping) - set(FIELDS))
    missing = [field for field in REQUIRED if field not in mapping]
    if unknown or missing:
        raise SuiteError(
            item="mapping",
            expected=f"{', '.join(REQUIRED)}, and any of {', '.join(f for f in FIELDS if f not in REQUIRED)}",
            found=f"unknown {unknown}, missing {missing}",
            hint="Give --map FIELD=COLUMN for each.",
        )
    absent = [column for column in mapping.values() if column not in table.columns]
    if absent:
        raise SuiteError(
            item=f"{request.table}: columns",
            expected=", ".join(absent),
            found=", ".join(map(str, table.columns)),
            hint="Correct the mapping.",
        )
    named = pd.DataFrame({field: table[column] for field, column in mapping.items()}).reset_index(drop=True)
    _refuse_gaps(named, request)
    if "id" not in named:
        named["id"] = [f"{request.concept}-{number + 1:04}" for number in range(len(named))]
    if "split" not in named:
        named["split"] = _dealt(list(named["id"].astype(str)))
    return [
        {
            "id": str(row["id"]),
            "split": str(row["split"]),
            "arms": {arm.value: str(row[arm.value]).strip() for arm in Arm if _given(row.get(arm.value))},
        }
        for row in named.to_dict("records")
    ]


def _refuse_gaps(named: pd.DataFrame, request: ImportRequest) -> None:
    gaps = [
        f"row {number + 1}: {field}"
        for field in named.columns
        if field not in (Arm.CUE.value, Arm.CUE_FREE.value)
        for number, value in enumerate(named[field])
        if not _given(value)
    ]
    if gaps:
        raise SuiteError(
            item=str(request.table),
            expected="a value in every mapped column",
            found=f"{len(gaps)} empty cells: {', '.join(gaps[:10])}{' ...' if len(gaps) > 10 else ''}",
            hint="Fill the cells, or leave those rows out.",
        )


def _given(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and value != value) and str(value).strip() != ""  # noqa: PLR0124 - NaN


def _dealt(ids: list[str]) -> list[str]:
    """Deal scenarios to the splits by the digest of their id, so that the order of rows decides nothing."""
    order = sorted(range(len(ids)), key=lambda number: digest_bytes(ids[number].encode()))
    first = set(order[: round(_DISCOVERY_SHARE * len(ids))])
    return [(Split.DISCOVERY if number in first else Split.CONFIRMATION).value for number in range(len(ids))]
