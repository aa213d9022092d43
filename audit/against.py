"""Audit a new model with the configuration of a sealed base, so that the two can be compared.

Everything that decides what is asked and how it is judged comes from the base's sealed manifest. The user names the new
model, its SAEs and how much machine there is; whatever else a configuration says must be what the base did.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from audit.capture.sae_sources import SHIPPED, SHIPPED_CONTROLS
from audit.config import DEFAULT_SOURCE, AuditConfig, ProbeConfig, PromptFormat, SaeConfig, load_config, parse_config
from audit.differences.parents import Opened, open_parent
from audit.digests import Json
from audit.errors import KeyProblem, UsageError
from audit.signing.attested import check_trust, pinned_signer
from audit.signing.checks import CheckStatus
from audit.signing.signer import Signer
from probes.loader import builtin_names, load_suites

# What the new model is, what reads it, how it is run and how the report looks: none of it decides what was asked.
_FREE_SECTIONS = frozenset({"model", "sae", "report", "seal"})
_FREE_KEYS = frozenset({"capture.batch_tokens", "capture.executor", "capture.workers", "causal.budget"})
# Where suites lie on this machine; that they are the base's is decided by their digests.
_SUITES = "probes.suites"
_NAMED = 8


@dataclass(frozen=True, slots=True)
class BaseAudit:
    """A base whose seal holds, and the configuration of its audit; local folders stand there by their own names only.

    Args:
        opened: the verified bundle.
        config: what its manifest says.
    """

    opened: Opened
    config: AuditConfig


def read_base(folder: Path, *, trusted: Path | None, now: datetime) -> BaseAudit:
    """Verify a base and read the configuration of its audit.

    Args:
        folder: the sealed bundle.
        trusted: the certificate of its signer or of an authority above, obtained elsewhere; None leaves it unchecked.
        now: the clock.

    Raises:
        UsageError: it is no bundle, or a redacted copy.
        EvidenceError: a check fails.
        ConfigError: another version of the tool made it, with keys that this one does not know.
    """
    opened = open_parent(folder, trusted=trusted, now=now)
    # A key without a value is written as null, which TOML does not have.
    config = {
        section: {key: value for key, value in keys.items() if value is not None}
        for section, keys in opened.record.run.config.items()
        if isinstance(keys, Mapping)
    }
    return BaseAudit(opened, parse_config(config, origin=f"the configuration in {folder}"))


def require_same_trust(signer: Signer, trusted: Path | None, *, now: datetime) -> None:
    """Refuse a key whose seal the certificate that pins the base would not pin.

    Raises:
        KeyProblem: the new bundle would not verify against it, and the comparison would fail after the whole audit.
    """
    check = check_trust(signer.certificate, signer.issuers, pinned_signer(trusted), moment=now)
    if check.status is CheckStatus.FAIL:
        raise KeyProblem(
            item=f"--trust {trusted}",
            expected="a certificate that stands for the base's signer and for this key's",
            found=check.detail,
            hint="Seal with the base's key or one of the same authority, or compare later without --trust.",
        )


def settings_against(base: BaseAudit, *, path: Path | None, model: str | None) -> AuditConfig:
    """Return the configuration by which a new model is audited as the base was.

    Args:
        base: the base.
        path: an `audit.toml`, or None. It may say `[model]`, `[sae]`, `[report]`, `[seal]`, the batches, executor and
            workers of `[capture]`, `causal.budget`, and where the suites lie. A section that it leaves out is the
            base's.
        model: the new model's source, instead of that of the file.

    Raises:
        UsageError: the file says otherwise than the base, the new model is not named, or suites or SAEs of the base
            cannot be found by what the base tells of them.
        ConfigError: the file cannot be read.
        SuiteError: a suite cannot be read.
    """
    said = _said(path)
    own = load_config(path) if path is not None else AuditConfig()
    settings = base.config
    conflicts: list[str] = []
    for name, keys in said.items():
        section = getattr(settings, name)
        for key in keys:
            was, wanted = getattr(section, key), getattr(getattr(own, name), key)
            address = f"{name}.{key}"
            if name in _FREE_SECTIONS or address in _FREE_KEYS or address == _SUITES:
                section = replace(section, **{key: wanted})
            elif was != wanted:
                conflicts.append(f"{address} is {_shown(was)} in the base and {_shown(wanted)} in {path}")
        settings = replace(settings, **{name: section})
    if conflicts:
        more = f"; and {len(conflicts) - _NAMED} more" if len(conflicts) > _NAMED else ""
        raise UsageError(
            item=f"--config {path}",
            expected=f"what the audit of {base.opened.folder} did, except for model, SAEs, resources and report",
            found="; ".join(conflicts[:_NAMED]) + more,
            hint="Remove these keys: they are taken from the base. Nothing was measured.",
        )
    if model is not None:
        settings = replace(settings, model=replace(settings.model, source=model))
    _require_sources(settings, said, base, model=model)
    # The base's format in words: a model without a chat template must not be asked in another form.
    form = PromptFormat(base.opened.record.findings.format)
    settings = replace(settings, probes=replace(settings.probes, format=form))
    _require_suites(settings.probes, base)
    return settings


def _said(path: Path | None) -> Mapping[str, Mapping[str, Json]]:
    """Return the keys that a file names; `load_config` has the errors."""
    if path is None:
        return {}
    load_config(path)
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _require_sources(
    settings: AuditConfig, said: Mapping[str, Mapping[str, Json]], base: BaseAudit, *, model: str | None
) -> None:
    folder = base.opened.folder
    if model is None and "source" not in said.get("model", {}) and settings.model.source != DEFAULT_SOURCE:
        raise UsageError(
            item="the new model",
            expected="its source, by --model or model.source in --config",
            found=f"none; the base's was called {settings.model.source!r}",
            hint="Name the model that is to be compared with the base.",
        )
    lost = [
        f"sae.{field.name}: {source}"
        for field in fields(SaeConfig)
        if field.name not in said.get("sae", {})
        for source in getattr(settings.sae, field.name)
        if _is_local(source)
    ]
    if lost:
        raise UsageError(
            item=f"SAEs of {folder}",
            expected="their folders on this machine, in [sae] of --config: a bundle keeps a folder's own name only",
            found="; ".join(lost),
            hint="Write [sae] with sources (and controls and labels, where the base had them). Weights are compared.",
        )
    if _SUITES.partition(".")[2] not in said.get("probes", {}):
        unknown = [name for name in settings.probes.suites if name not in builtin_names()]
        if unknown:
            raise UsageError(
                item=f"suites of {folder}",
                expected="their folders, in probes.suites of --config: a bundle does not hold its suites",
                found=", ".join(unknown),
                hint="Write [probes] with suites = [...], shipped ones by name; their digests are compared.",
            )


def _is_local(source: str) -> bool:
    """Return whether a recorded source is the own name of a folder or file, which says nothing of where it lies."""
    known = {DEFAULT_SOURCE, *SHIPPED, *SHIPPED_CONTROLS}
    return source not in known and "/" not in source and not source.startswith("saelens:")


def _require_suites(probes: ProbeConfig, base: BaseAudit) -> None:
    recorded = {suite.id: suite for suite in base.opened.record.findings.suites}
    found = {suite.id: suite for suite in load_suites(probes.suites, subset=probes.subset)}
    problems = [f"{name} is missing" for name in sorted({*recorded} - {*found})]
    problems += [f"{name} is not a suite of the base" for name in sorted({*found} - {*recorded})]
    problems += [
        f"{name} has changed: {recorded[name].digest} in the base, {found[name].digest} here"
        for name in sorted({*recorded} & {*found})
        if recorded[name].digest != found[name].digest
    ]
    if problems:
        raise UsageError(
            item=f"the suites of {base.opened.folder}",
            expected="the same suites, by digest",
            found="; ".join(problems),
            hint="Use the suites that the base ran, or audit the base's model again. Nothing was measured.",
        )


def _shown(value: Any) -> str:  # noqa: ANN401 - a value of any key
    return "unset" if value is None else repr(getattr(value, "value", value))
