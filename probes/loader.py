"""Read probe suites from the package or from a folder, and refuse anything that is not exactly a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

import yaml

from audit.digests import digest_bytes, digest_tree
from audit.errors import SuiteError
from probes.schema import (
    CONCEPT_SCHEMA,
    OUTCOME_FRAME,
    REQUIRED_ARMS,
    SUITE_SCHEMA,
    Arm,
    Concept,
    Frame,
    Outcome,
    Rule,
    Scenario,
    Split,
    Suite,
)

_SUITE_FILE = "suite.yaml"


def builtin_names() -> tuple[str, ...]:
    """Return the names of the suites that ship with the package, sorted."""
    root = Path(str(files("probes.suites")))
    return tuple(sorted(path.parent.name for path in root.glob(f"*/{_SUITE_FILE}")))


def load_suite(name_or_folder: str) -> Suite:
    """Load a shipped suite by name, or any suite by its folder.

    Args:
        name_or_folder: a name from `builtin_names`, or a path to a folder with a `suite.yaml`.

    Raises:
        SuiteError: there is no such suite, or a file breaks the schema. The message names file and key.
    """
    folder = Path(name_or_folder)
    if not (folder / _SUITE_FILE).is_file():
        folder = Path(str(files("probes.suites"))) / name_or_folder
    if "/" not in name_or_folder and name_or_folder in builtin_names():
        folder = Path(str(files("probes.suites"))) / name_or_folder
    if not (folder / _SUITE_FILE).is_file():
        raise SuiteError(
            item=f"suite {name_or_folder!r}",
            expected=f"one of {', '.join(builtin_names())}, or a folder with a {_SUITE_FILE}",
            found="neither",
            hint="Run `affidavit suites list`, or give the path of the suite's folder.",
        )
    return _read_suite(folder)


def load_suites(names: Iterable[str]) -> tuple[Suite, ...]:
    """Load several suites and refuse duplicated suite, concept or scenario ids among them."""
    suites = tuple(load_suite(name) for name in names)
    if not suites:
        raise SuiteError(item="suites", expected="at least one suite", found="none", hint="Name a suite in the config.")
    _refuse_duplicates("suite ids", [suite.id for suite in suites], where="the configured suites")
    concepts = [concept for suite in suites for concept in suite.concepts]
    _refuse_duplicates("concept ids", [concept.id for concept in concepts], where="the configured suites")
    _refuse_duplicates("scenario ids", [s.id for c in concepts for s in c.scenarios], where="the configured suites")
    return suites


def _read_suite(folder: Path) -> Suite:
    path = folder / _SUITE_FILE
    data = _read_mapping(path, schema=SUITE_SCHEMA)
    _require_keys(data, path, {"schema", "id", "title", "domain", "version", "language", "frames", "concepts"})
    names = _sequence(data, "concepts", path)
    if not names:
        raise SuiteError(
            item=f"{path.name} of suite {data['id']!r}",
            expected="at least one concept",
            found="an empty list",
            hint="An empty suite can audit nothing: add a concept file and name it under `concepts`.",
        )
    frames = tuple(_frame(item, path) for item in _sequence(data, "frames", path))
    _refuse_duplicates("frame names", [frame.name for frame in frames], where=str(path))
    if not frames:
        raise SuiteError(item=str(path), expected="at least one frame", found="none", hint='Add a frame "{text}".')
    concept_paths = [folder / f"{_text(name, path, 'concepts')}.yaml" for name in names]
    concepts = tuple(_read_concept(p, domain=_text(data["domain"], path, "domain")) for p in concept_paths)
    _refuse_duplicates("concept ids", [concept.id for concept in concepts], where=str(path))
    _refuse_duplicates("scenario ids", [s.id for c in concepts for s in c.scenarios], where=str(path))
    digests = {p.name: digest_bytes(p.read_bytes()) for p in (path, *concept_paths)}
    return Suite(
        id=_text(data["id"], path, "id"),
        title=_text(data["title"], path, "title"),
        domain=_text(data["domain"], path, "domain"),
        version=_text(data["version"], path, "version"),
        language=_text(data["language"], path, "language"),
        frames=frames,
        concepts=concepts,
        digest=digest_tree(digests),
    )


def _read_concept(path: Path, *, domain: str) -> Concept:
    data = _read_mapping(path, schema=CONCEPT_SCHEMA)
    required = {"schema", "id", "domain", "title", "language", "definition", "rules", "why", "scenarios"}
    _require_keys(data, path, required, optional={"outcome"})
    if data["domain"] != domain:
        raise SuiteError(
            item=f"{path}: domain",
            expected=f"{domain!r}, the domain of its suite",
            found=repr(data["domain"]),
            hint="Move the file to the suite of its domain.",
        )
    scenarios = tuple(_scenario(item, path) for item in _sequence(data, "scenarios", path))
    if not scenarios:
        raise SuiteError(item=str(path), expected="at least one scenario", found="none", hint="Add scenarios.")
    _refuse_duplicates("scenario ids", [scenario.id for scenario in scenarios], where=str(path))
    outcome = data.get("outcome")
    return Concept(
        id=_text(data["id"], path, "id"),
        domain=domain,
        title=_text(data["title"], path, "title"),
        definition=_text(data["definition"], path, "definition").strip(),
        rules=tuple(_rule(item, path) for item in _sequence(data, "rules", path)),
        why=_text(data["why"], path, "why").strip(),
        language=_text(data["language"], path, "language"),
        outcome=None if outcome is None else _outcome(outcome, path),
        scenarios=scenarios,
    )


def _scenario(item: object, path: Path) -> Scenario:
    data = _mapping(item, path, "scenarios")
    _require_keys(data, path, {"id", "split", "arms"})
    identity = _text(data["id"], path, "id")
    where = f"{path}: scenario {identity!r}"
    arms = _mapping(data["arms"], path, f"{identity}.arms")
    unknown = sorted(set(arms) - {arm.value for arm in Arm})
    missing = [arm.value for arm in REQUIRED_ARMS if arm.value not in arms]
    if unknown or missing:
        raise SuiteError(
            item=f"{where}: arms",
            expected=f"{', '.join(REQUIRED_ARMS)} and optionally cue, cue_free",
            found=f"unknown {unknown}, missing {missing}",
            hint="Write the missing arms, or remove the unknown ones.",
        )
    if data["split"] not in {split.value for split in Split}:
        raise SuiteError(
            item=f"{where}: split",
            expected="discovery or confirmation",
            found=repr(data["split"]),
            hint="Each scenario belongs to one split, fixed in the file.",
        )
    texts = {Arm(name): _text(text, path, f"{identity}.{name}").strip() for name, text in arms.items()}
    return Scenario(id=identity, split=Split(str(data["split"])), arms=texts)


def _frame(item: object, path: Path) -> Frame:
    data = _mapping(item, path, "frames")
    _require_keys(data, path, {"name", "template"})
    frame = Frame(_text(data["name"], path, "frames.name"), _text(data["template"], path, "frames.template"))
    if frame.name == OUTCOME_FRAME:
        raise SuiteError(
            item=f"{path}: frames",
            expected="a frame of another name",
            found=repr(OUTCOME_FRAME),
            hint="That name marks the outcome questions in the evidence.",
        )
    _require_slot(frame.template, path, f"frame {frame.name!r}")
    return frame


def _outcome(item: object, path: Path) -> Outcome:
    data = _mapping(item, path, "outcome")
    _require_keys(data, path, {"template", "target", "foil"})
    fields = {key: _text(data[key], path, f"outcome.{key}") for key in ("template", "target", "foil")}
    _require_slot(fields["template"], path, "outcome")
    return Outcome(**fields)


def _rule(item: object, path: Path) -> Rule:
    data = _mapping(item, path, "rules")
    _require_keys(data, path, {"name", "clause"})
    return Rule(_text(data["name"], path, "rules.name"), _text(data["clause"], path, "rules.clause"))


def _require_slot(template: str, path: Path, what: str) -> None:
    if template.count("{text}") != 1:
        raise SuiteError(
            item=f"{path}: {what}",
            expected="a template with {text} exactly once",
            found=repr(template),
            hint="Put {text} where the scenario goes.",
        )


def _read_mapping(path: Path, *, schema: str) -> Mapping[str, object]:
    if not path.is_file():
        raise SuiteError(item=str(path), expected="a suite file", found="no file", hint="Check the name in suite.yaml.")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - derives from SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(item=str(path), expected="valid YAML", found=str(error), hint="Mend the file.") from error
    mapping = _mapping(data, path, "the file")
    if mapping.get("schema") != schema:
        raise SuiteError(
            item=f"{path}: schema",
            expected=schema,
            found=repr(mapping.get("schema")),
            hint="This version reads only that schema.",
        )
    return mapping


def _require_keys(
    data: Mapping[str, object], path: Path, required: set[str], *, optional: frozenset[str] | set[str] = frozenset()
) -> None:
    unknown = sorted(set(data) - required - optional)
    missing = sorted(required - set(data))
    if unknown or missing:
        raise SuiteError(
            item=str(path),
            expected=f"the keys {', '.join(sorted(required | optional))}",
            found=f"unknown {unknown}, missing {missing}",
            hint="Unknown keys are refused, so that a misspelt key is never dropped silently.",
        )


def _mapping(item: object, path: Path, key: str) -> Mapping[str, object]:
    if isinstance(item, dict) and all(isinstance(name, str) for name in item):
        return item
    raise SuiteError(item=f"{path}: {key}", expected="a mapping", found=type(item).__name__, hint="See docs/suites.md.")


def _sequence(data: Mapping[str, object], key: str, path: Path) -> list[object]:
    item = data[key]
    if isinstance(item, list):
        return item
    raise SuiteError(item=f"{path}: {key}", expected="a list", found=type(item).__name__, hint="See docs/suites.md.")


def _text(item: object, path: Path, key: str) -> str:
    if isinstance(item, str) and item.strip():
        return item
    raise SuiteError(
        item=f"{path}: {key}",
        expected="a text that is not empty",
        found=repr(item),
        hint='Quote words such as "Yes", "No" and numbers: YAML reads them as other types.',
    )


def _refuse_duplicates(what: str, ids: list[str], *, where: str) -> None:
    repeated = sorted(identity for identity, count in Counter(ids).items() if count > 1)
    if repeated:
        raise SuiteError(
            item=f"{where}: {what}",
            expected="each id once",
            found=f"repeated: {', '.join(repeated)}",
            hint="A scenario counted twice would make evidence look stronger than it is: rename or remove one.",
        )


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML would silently overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [str(key) for key, count in Counter(keys).items() if count > 1]
        if repeated:
            problem = f"key given twice: {', '.join(repeated)}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep=deep)
