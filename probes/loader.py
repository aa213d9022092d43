"""Read probe suites from the package or from a folder, and refuse anything that is not exactly a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Generic

from audit.digests import digest_tree
from audit.errors import SuiteError
from probes.schema import Suite, unknown_concepts
from probes.suite_files import ConceptFile, MixFile, PartKind, SuiteFile, parse
from probes.violations import refusal
from probes.yaml_source import Document, read_yaml

SUITE_FILE = "suite.yaml"


def builtin_names() -> tuple[str, ...]:
    """Return the names of the suites that ship with the package, sorted."""
    root = Path(str(files("probes.suites")))
    return tuple(sorted(path.parent.name for path in root.glob(f"*/{SUITE_FILE}")))


def load_suite(name_or_folder: str) -> Suite:
    """Load a shipped suite by name, or any suite by its folder.

    Args:
        name_or_folder: a name from `builtin_names`, or a path to a folder with a `suite.yaml`.

    Raises:
        SuiteError: there is no such suite, or its files break the schema. All violations of all files are listed in
        the one error, each with file, line and field.
    """
    folder = Path(name_or_folder)
    if "/" not in name_or_folder and name_or_folder in builtin_names():
        if (folder / SUITE_FILE).is_file():
            raise SuiteError(
                item=f"suite {name_or_folder!r}",
                expected="one suite of that name",
                found="a shipped suite and a folder here",
                hint=f"Say ./{name_or_folder} for the folder, or rename it.",
            )
        folder = Path(str(files("probes.suites"))) / name_or_folder
    if not (folder / SUITE_FILE).is_file():
        raise SuiteError(
            item=f"suite {name_or_folder!r}",
            expected=f"one of {', '.join(builtin_names())}, or a folder with a {SUITE_FILE}",
            found="neither",
            hint="Run `affidavit suites list`, or give the path of the suite's folder.",
        )
    return _read_suite(folder)


def load_suites(names: Iterable[str], *, subset: str | None = None) -> tuple[Suite, ...]:
    """Load several suites that belong together.

    Args:
        names: as for `load_suite`.
        subset: the part of each suite that is wanted; None stands for the whole.

    Raises:
        SuiteError: a file breaks the schema, an id stands in two suites, a mix names a concept that no suite
        defines, or a suite has no such subset.
    """
    suites = tuple(load_suite(name) for name in names)
    if not suites:
        raise SuiteError(item="suites", expected="at least one suite", found="none", hint="Name a suite in the config.")
    concepts = [concept for suite in suites for concept in suite.concepts]
    mixes = [mix for suite in suites for mix in suite.mixes]
    scenarios = [s.id for concept in concepts for s in concept.scenarios] + [s.id for m in mixes for s in m.scenarios]
    for what, ids in (
        ("suite ids", [suite.id for suite in suites]),
        ("concept ids", [concept.id for concept in concepts]),
        ("mix ids", [mix.id for mix in mixes]),
        ("scenario ids", scenarios),
    ):
        _refuse_shared(what, ids)
    if unknown := unknown_concepts(mixes, {concept.id for concept in concepts}):
        raise SuiteError(
            item=f"mix {', '.join(unknown)}",
            expected=f"concepts of the named suites: {', '.join(c.id for c in concepts) or 'none'}",
            found=", ".join(sorted({name for names in unknown.values() for name in names})),
            hint="Name the suite that defines them too, or correct the id.",
        )
    return suites if subset is None else tuple(suite.part(subset) for suite in suites)


def _read_suite(folder: Path) -> Suite:
    document = read_yaml(folder / SUITE_FILE)
    suite = parse(document, SuiteFile)
    if suite is None:
        raise refusal(f"suite in {folder}", document.violations)
    paths = {name: folder / f"{name}.yaml" for name in (*suite.concepts, *suite.mixes)}
    for key, names in (("concepts", suite.concepts), ("mixes", suite.mixes)):
        for number, name in enumerate(names):
            if not paths[name].is_file():
                document.refuse((key, number), expected=f"the file {name}.yaml beside suite.yaml", found="no such file")
    if document.violations:
        raise refusal(f"suite {suite.id!r} in {folder}", document.violations)
    concepts = [_read(paths[name], name, ConceptFile, suite) for name in suite.concepts]
    mixes = [_read(paths[name], name, MixFile, suite) for name in suite.mixes]
    _refuse_across([*concepts, *mixes])
    documents = [*(read.document for read in concepts), *(read.document for read in mixes)]
    if violations := [violation for each in documents for violation in each.violations]:
        raise refusal(f"suite {suite.id!r} in {folder}", violations)
    digests = {Path(each.file).name: each.digest for each in (document, *documents)}
    return Suite(
        id=suite.id,
        title=suite.title,
        domain=suite.domain,
        version=suite.version,
        language=suite.language,
        frames=suite.frames_of(),
        concepts=tuple(read.content.concept() for read in concepts if read.content is not None),
        digest=digest_tree(digests),
        mixes=tuple(read.content.mix() for read in mixes if read.content is not None),
        limits=tuple(suite.limits),
        salt=suite.salt if suite.withheld else None,
        subsets=suite.subsets_of(),
    )


@dataclass(frozen=True, slots=True)
class _FileRead(Generic[PartKind]):
    document: Document
    content: PartKind | None


def _read(path: Path, name: str, kind: type[PartKind], suite: SuiteFile) -> _FileRead[PartKind]:
    document = read_yaml(path)
    found = parse(document, kind)
    if found is not None:
        _check_membership(document, found, name, suite)
    return _FileRead(document, found)


def _check_membership(document: Document, found: ConceptFile | MixFile, name: str, suite: SuiteFile) -> None:
    if found.id != name:
        document.refuse(("id",), expected=f"{name!r}, the name of the file", found=repr(found.id))
    if found.language != suite.language:
        document.refuse(("language",), expected=f"{suite.language!r}, the suite's", found=repr(found.language))
    if isinstance(found, ConceptFile) and found.domain != suite.domain:
        document.refuse(("domain",), expected=f"{suite.domain!r}, the suite's", found=repr(found.domain))
    if isinstance(found, MixFile) and found.concepts[0] == found.concepts[1]:
        document.refuse(("concepts",), expected="two different concepts", found=f"{found.concepts[0]!r} twice")


def _refuse_across(files_read: Sequence[_FileRead[ConceptFile] | _FileRead[MixFile]]) -> None:
    """Refuse a scenario id that another file of the suite has too."""
    seen: dict[str, str] = {}
    for read in files_read:
        for number, scenario in enumerate(read.content.scenarios if read.content is not None else ()):
            place = ("scenarios", number, "id")
            if scenario.id in seen:
                found = f"{scenario.id!r} again, first in {seen[scenario.id]}"
                read.document.refuse(place, expected="an id that stands once", found=found)
            seen.setdefault(scenario.id, f"{read.document.file}:{read.document.line_of(place)}")


def _refuse_shared(what: str, ids: list[str]) -> None:
    shared = sorted(identity for identity, count in Counter(ids).items() if count > 1)
    if shared:
        raise SuiteError(
            item=f"the named suites: {what}",
            expected="each id once",
            found=f"repeated: {', '.join(shared[:20])}",
            hint="A scenario counted twice would make evidence look stronger than it is: rename or remove one.",
        )
