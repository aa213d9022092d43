"""Begin a suite of one's own: a folder whose empty texts the lint lists until they are written."""

from __future__ import annotations

from pathlib import Path

import yaml

from audit.errors import OutputError, SuiteError
from probes.loader import SUITE_FILE
from probes.schema import CONCEPT_SCHEMA, SUITE_SCHEMA, Arm, Split
from probes.suite_files import RESERVED, SuiteFile, is_identifier, parse
from probes.yaml_source import MOST_BYTES, read_yaml

DESIGN_SPLIT = {Split.DISCOVERY: 40, Split.CONFIRMATION: 24}
_CUED_EVERY = 2
_WIDTH = 120


def write_suite(folder: Path, *, concept: str, title: str) -> tuple[Path, ...]:
    """Write a new suite with one empty concept, or add an empty concept to a suite that is there.

    Args:
        folder: the suite's folder; its name becomes the suite's id.
        concept: id of the concept, which is its file's name too.
        title: the concept's title.

    Returns:
        The files written. Every text in them is empty: such a suite is refused until it is written.

    Raises:
        OutputError: the concept's file is there already, or the folder cannot be written.
        SuiteError: an id is not one.
    """
    suite_path, concept_path = folder / SUITE_FILE, folder / f"{concept}.yaml"
    domain, language = folder.resolve().name, "en"
    if suite_path.exists():
        suite = parse(read_yaml(suite_path), SuiteFile)
        domain, language = (suite.domain, suite.language) if suite is not None else (domain, language)
    require_identifiers(folder=domain, concept=concept)
    if concept_path.exists():
        raise OutputError(
            item=str(concept_path), expected="no such file yet", found="a file", hint="Choose another concept id."
        )
    documents = {concept_path: concept_document(concept, domain=domain, language=language, title=title)}
    if not suite_path.exists():
        documents[suite_path] = suite_document(domain, concept=concept)
    write_documents(documents)
    return tuple(documents)


def suite_document(domain: str, *, concept: str) -> dict[str, object]:
    """Return a `suite.yaml` with the three usual frames and one concept."""
    return {
        "schema": SUITE_SCHEMA,
        "id": domain,
        "title": domain.replace("_", " ").capitalize(),
        "domain": domain,
        "version": "1",
        "language": "en",
        "frames": [
            {"name": "statement", "template": "{text}"},
            {"name": "question", "template": "{text} What should happen next?"},
            {"name": "instruction", "template": "Summarise this case for the file. {text}"},
        ],
        "concepts": [concept],
    }


def concept_document(concept: str, *, domain: str, language: str, title: str) -> dict[str, object]:
    """Return a concept's file of the usual size with every text empty."""
    scenarios: list[dict[str, object]] = []
    for split, count in DESIGN_SPLIT.items():
        for number in range(count):
            cued = (Arm.CUE, Arm.CUE_FREE) if number % _CUED_EVERY == 0 else ()
            arms = {arm.value: "" for arm in (Arm.CONCEPT, Arm.CONTROL, Arm.NEUTRAL, *cued)}
            scenarios.append({"id": f"{concept}-{len(scenarios) + 1:03}", "split": split.value, "arms": arms})
    return {
        "schema": CONCEPT_SCHEMA,
        "id": concept,
        "domain": domain,
        "title": title,
        "language": language,
        "definition": "",
        "rules": [{"name": "", "clause": ""}],
        "why": "",
        "outcome": {"template": "{text} Does this describe ...? Answer Yes or No.", "target": "Yes", "foil": "No"},
        "scenarios": scenarios,
    }


def write_documents(documents: dict[Path, dict[str, object]]) -> None:
    """Write YAML files that must not exist, all or none.

    Raises:
        SuiteError: a file would be larger than a suite's file may be.
        OutputError: a file exists, or the folder cannot be written.
    """
    written: list[Path] = []
    texts = {
        path: yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=_WIDTH)
        for path, data in documents.items()
    }
    for path, text in texts.items():
        if len(text.encode()) > MOST_BYTES:
            raise SuiteError(
                item=path.name,
                expected=f"at most {MOST_BYTES:,} bytes a concept",
                found=f"{len(text.encode()):,}",
                hint="Take a sample of the rows: a few hundred scenarios are enough for any test.",
            )
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise OutputError(
            item=str(path),
            expected="a new file in a folder that can be written",
            found=error.strerror or type(error).__name__,
            hint="Choose another folder, or remove the file.",
        ) from error


def require_identifiers(**names: str) -> None:
    """Refuse what cannot be an id and a file name.

    Raises:
        SuiteError: names the first that is none.
    """
    for what, name in names.items():
        if not is_identifier(name):
            raise SuiteError(
                item=f"{what} {name!r}",
                expected=f"letters, digits, '_', '-' and '.', beginning with a letter or digit, and not {RESERVED!r}",
                found="something else",
                hint="It becomes an id and a file name.",
            )
