"""Whether two audits asked the same of two models: without that no difference is one of the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from audit.differences.parents import Opened
from audit.digests import Json
from audit.errors import UsageError
from audit.records import FINDINGS_SCHEMA, Findings, SetupCheck, SuiteRecord

# What decides a score or which features are chosen by it. Batches, executor and arithmetic are what may differ.
_SECTIONS = ("analysis", "fidelity", "interaction")
_IDENTITY = ("concept", "scenario", "split", "arm", "frame", "text")
_NAMED = 5


def setup_checks(
    base: Opened, new: Opened, *, prompts: pd.DataFrame, new_prompts: pd.DataFrame
) -> tuple[SetupCheck, ...]:
    """Return every condition of a comparison, whether it holds or not.

    Args:
        base: the one bundle.
        new: the other.
        prompts: the prompts and token hashes of the base, by number.
        new_prompts: those of the other.
    """
    one, other = base.record.findings, new.record.findings
    return (
        _check("evidence schema", _schemas(one, other), f"both are {FINDINGS_SCHEMA}"),
        _check("suites", list(_suites(one.suites, other.suites)), f"the same {len(one.suites)}, by digest and part"),
        _check("prompt format", _unequal("format", one.format, other.format), f"both {one.format}"),
        _check("configuration", list(_configuration(base, new)), f"the same {', '.join(_SECTIONS)}, outlier limit"),
        _check("prompts", list(_prompts(prompts, new_prompts)), f"the same {len(prompts)}"),
        _check("tokens", list(_tokens(prompts, new_prompts)), _tokens_seen(prompts)),
    )


def require_comparable(checks: Sequence[SetupCheck]) -> None:
    """Refuse a comparison of which a condition does not hold.

    Raises:
        UsageError: the message names every condition that does not hold, with both values.
    """
    failed = [check for check in checks if not check.holds]
    if failed:
        raise UsageError(
            item="not comparable",
            expected="two audits with the same suites, prompt format, tokens and configuration",
            found="; ".join(f"{check.name}: {check.detail}" for check in failed),
            hint="Audit the new model with the base's suites and configuration. There is no verdict.",
        )


def _check(name: str, problems: Sequence[str], holds: str) -> SetupCheck:
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return SetupCheck(name, not problems, "; ".join(problems[:_NAMED]) + more if problems else holds)


def _unequal(what: str, one: object, other: object) -> list[str]:
    return [] if one == other else [f"{what} is {one} in the base and {other} in the new bundle"]


def _schemas(one: Findings, other: Findings) -> list[str]:
    return [
        f"{name} bundle has {found.schema}, this version reads {FINDINGS_SCHEMA}"
        for name, found in (("the base", one), ("the new", other))
        if found.schema != FINDINGS_SCHEMA
    ]


def _suites(one: Sequence[SuiteRecord], other: Sequence[SuiteRecord]) -> Iterator[str]:
    first, second = ({suite.id: suite for suite in suites} for suites in (one, other))
    for name in sorted({*first, *second}):
        if name not in first or name not in second:
            yield f"{name} ran in the {'new' if name in second else 'base'} bundle only"
            continue
        yield from _unequal(f"digest of {name}", first[name].digest, second[name].digest)
        yield from _unequal(f"part of {name}", first[name].subset or "all", second[name].subset or "all")
        yield from _unequal(f"concepts of {name}", _listed(first[name].concepts), _listed(second[name].concepts))
        yield from _unequal(f"mixes of {name}", _listed(first[name].mixes), _listed(second[name].mixes))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _configuration(base: Opened, new: Opened) -> Iterator[str]:
    one, other = base.record.run.config, new.record.run.config
    for section in _SECTIONS:
        first, second = _section(one, section), _section(other, section)
        for key in sorted({*first, *second}):
            yield from _unequal(f"{section}.{key}", first.get(key, "unset"), second.get(key, "unset"))
    limit = "outlier_norm_factor"
    yield from _unequal(
        f"capture.{limit}", *(_section(config, "capture").get(limit, "unset") for config in (one, other))
    )


def _section(config: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _prompts(one: pd.DataFrame, other: pd.DataFrame) -> Iterator[str]:
    if len(one) != len(other) or not one.index.equals(other.index):
        yield f"{len(one)} in the base and {len(other)} in the new bundle, or other numbers"
        return
    for column in _IDENTITY:
        if different := int((one[column] != other[column]).sum()):
            yield f"{different} prompts have another {column}"


def _tokens_seen(prompts: pd.DataFrame) -> str:
    withheld = int((prompts["text"] == "").sum())
    by_number = f"; those of {withheld} prompts whose texts are withheld by their number only" if withheld else ""
    return f"the same {prompts['tokens'].sum()}{by_number}"


def _tokens(one: pd.DataFrame, other: pd.DataFrame) -> Iterator[str]:
    shared = one.index.intersection(other.index)
    first, second = one.loc[shared], other.loc[shared]
    # Only of prompts that are the same can other tokens be blamed on a tokenizer.
    same = (first[list(_IDENTITY)] == second[list(_IDENTITY)]).all(axis=1)
    first, second = first[same], second[same]
    if different := int(((first["tokens"] != second["tokens"]) | (first["content"] != second["content"])).sum()):
        yield f"{different} prompts have another number of tokens: the tokenizers differ"
    elif different := int((first["pieces"] != second["pieces"]).sum()):
        yield f"{different} prompts are cut into other tokens: the tokenizers differ"
