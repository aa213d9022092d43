"""What an audit is going to do, as its plan says it and its manifest repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from audit import __version__
from audit.config import AuditConfig
from audit.digests import Json, measuring_code
from audit.errors import UsageError
from audit.inputs import Inputs
from audit.records import as_json
from audit.signing.plan import Plan, plan_content, plan_differences

_NAMED = 8


def planned(inputs: Inputs, config: AuditConfig) -> dict[str, Json]:
    """Return what an audit of these inputs measures and by which thresholds, in the form of a plan."""
    controls = {control.fitted.sae.record.name: control.fitted.sae.record for control in inputs.frozen.values()}
    return plan_content(
        model=as_json(inputs.model.record),
        saes=[as_json(one.sae.record) for one in inputs.fitted],
        controls=[as_json(controls[name]) for name in sorted(controls)],
        suites=[as_json(record) for record in inputs.suite_records],
        prompt_format=inputs.prompt_format.value,
        config=public_config(config),
        version=__version__,
        code=measuring_code(),
    )


def require_planned(plan: Plan, inputs: Inputs, config: AuditConfig) -> None:
    """Pass if the audit is the planned one.

    Raises:
        UsageError: anything differs; each difference is named with both values.
    """
    different = plan_differences(plan, planned(inputs, config))
    if different:
        more = f"; and {len(different) - _NAMED} more" if len(different) > _NAMED else ""
        raise UsageError(
            item=f"the plan sealed at {plan.statement.signed_at.isoformat()}",
            expected="the model, SAEs, suites, configuration and code that it names",
            found="; ".join(different[:_NAMED]) + more,
            hint="Run what was planned, or seal a new plan with `affidavit plan`. Nothing was measured.",
        )


def public_config(config: AuditConfig) -> dict[str, Json]:
    """Return the configuration for the record, with local folders by their own name.

    A bundle is handed to strangers; the paths of the machine that made it are none of their business, and digests say
    what was used.
    """
    public = replace(
        config,
        model=replace(config.model, source=_own_name(config.model.source)),
        sae=replace(
            config.sae,
            sources=tuple(_own_name(source) for source in config.sae.sources),
            controls=tuple(_own_name(source) for source in config.sae.controls),
            labels=tuple(_own_name(name) for name in config.sae.labels),
        ),
        probes=replace(config.probes, suites=tuple(_own_name(name) for name in config.probes.suites)),
    )
    value = as_json(public)
    if not isinstance(value, Mapping):
        raise TypeError("a configuration serialises to an object")
    return dict(value)


def _own_name(source: str) -> str:
    name, mark, site = source.partition("#")
    path = Path(name).expanduser()
    if Path(source).expanduser().exists() or not path.exists():
        path, mark, site = Path(source).expanduser(), "", ""
    return f"{path.resolve().name}{mark}{site}" if path.exists() else source
