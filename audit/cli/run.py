"""`affidavit run`: audit a model as a configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit.cli.sealing_key import signing_options

if TYPE_CHECKING:
    from audit.config import AuditConfig
    from audit.records import Predecessor
    from audit.signing.plan import Plan


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The bundle's folder.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), default=None, help="audit.toml.")
@signing_options
@click.option("--executor", type=click.Choice(["local", "ray"]), default=None, help="Instead of capture.executor.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default=None, help="Instead of model.dtype.")
@click.option(
    "--causal-budget",
    default=None,
    metavar="TEXT",
    help='Instead of causal.budget: "unlimited", "none", "40000 forwards" or "10 minutes".',
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="A plan sealed by `affidavit plan`: refuse the audit if anything differs from it.",
)
@click.option(
    "--previous",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The sealed bundle of the audit before this one: the new one is linked to it.",
)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="A policy.toml: its answer is printed in the report. Exit 1 if it does not pass; the bundle is sealed anyway.",
)
@click.option("--tsa", default=None, metavar="URL", help="Instead of seal.tsa; with level B-B it asks for B-T.")
@click.option("--model", default=None, metavar="SOURCE", help="Instead of model.source.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="BASE",
    help="A sealed bundle: audit with its suites and settings, then compare. --config may name model, SAEs, resources.",
)
@click.option(
    "--difference-out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="With --against: the difference's folder. Default: the bundle's name with -difference.",
)
@click.option(
    "--noise",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="With --against: a further bundle of the base's model; a change must exceed it. Repeatable.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="With --against: the certificate of the base's signer and of this key's, or of an authority above both.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def run(
    *,
    out: Path,
    config: Path | None,
    key: str,
    cert: Path | None,
    pkcs11_module: Path | None,
    executor: str | None,
    dtype: str | None,
    causal_budget: str | None,
    passphrase_env: str | None,
    plan: Path | None,
    previous: Path | None,
    policy_file: Path | None,
    tsa: str | None,
    model: str | None,
    against: Path | None,
    difference_out: Path | None,
    noise: tuple[Path, ...],
    trust: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Audit a model and seal the evidence.

    A killed run resumes: give the same --out again and finished parts are not run twice. With --against BASE the
    base's suites and settings are used, and the difference is written and sealed beside the bundle; whatever it says,
    the exit code is that of an audit alone.
    """
    from datetime import UTC, datetime

    from audit.cli.sealing_key import open_signer
    from audit.errors import ExitCode
    from audit.policy.files import read_policy
    from audit.workspace import refuse_taken
    from probes.loader import load_suites

    refuse_taken(out)
    now = datetime.now(UTC).replace(microsecond=0)
    target = _difference_folder(against, difference_out, out, alone={"--noise": noise, "--trust": trust})
    settings = _settings(
        against,
        config,
        model=model,
        trust=trust,
        now=now,
        executor=executor,
        dtype=dtype,
        causal_budget=causal_budget,
        tsa=tsa,
    )
    # Before torch is imported: a misspelt suite is told at once.
    load_suites(settings.probes.suites)
    signer = open_signer(key, cert, passphrase_env=passphrase_env, pkcs11_module=pkcs11_module, at=now)
    promised = _read_plan(plan, now) if plan is not None else None
    policy = read_policy(policy_file, today=now.date()) if policy_file is not None else None
    before = _predecessor(previous, now) if previous is not None else None
    if against is not None:
        from audit.against import require_same_trust

        require_same_trust(signer, trust, now=now)

    from audit.cli.bar import progress
    from audit.cli.summary import print_result
    from audit.pipeline import run_audit
    from audit.request import AuditRequest

    options = {
        "--config": config and config.name,
        "--executor": executor,
        "--dtype": dtype,
        "--causal-budget": causal_budget and f'"{causal_budget}"',
        "--plan": plan and plan.name,
        "--previous": previous and previous.name,
        "--policy": policy_file and policy_file.name,
        "--tsa": tsa,
        "--model": model and Path(model).name,
        "--against": against and against.name,
        "--out": out.name,
    }
    command = " ".join(["affidavit run", *(f"{name} {value}" for name, value in options.items() if value is not None)])
    request = AuditRequest(settings, out, signer, now, command, plan=promised, previous=before, policy=policy)
    listener = progress(quiet=quiet)
    result = run_audit(request, progress=listener)
    code = int(ExitCode.PASS if result.policy is None or result.policy.passed else ExitCode.GATE_FAILED)
    if against is None or target is None:
        print_result(result, as_json=as_json)
        return code
    from audit.cli.diff import print_difference
    from audit.differences.publishing import Parents, write_difference

    # The bundle is sealed by now: a comparison that fails leaves it whole, and `affidavit diff` may be tried again.
    difference = write_difference(
        Parents(against, out, noise, trust),
        target,
        signer,
        now=datetime.now(UTC),
        command=f"{command} --difference-out {target.name}",
        seal=settings.seal,
        progress=listener,
    )
    print_result(result, as_json=as_json, difference=(target, difference))
    if not as_json:
        print_difference(difference, target)
    return code


def _settings(
    against: Path | None,
    config: Path | None,
    *,
    model: str | None,
    trust: Path | None,
    now: datetime,
    executor: str | None,
    dtype: str | None,
    causal_budget: str | None,
    tsa: str | None,
) -> AuditConfig:
    """Return the configuration of the file, or of the base, with what the options say instead."""
    from dataclasses import replace

    from audit.budget import parse_limit
    from audit.config import AuditConfig, Dtype, ExecutorKind, SealLevel, check_seal, load_config

    if against is not None:
        from audit.against import read_base, settings_against

        settings = settings_against(read_base(against, trusted=trust, now=now), path=config, model=model)
    else:
        settings = load_config(config) if config is not None else AuditConfig()
        if model is not None:
            settings = replace(settings, model=replace(settings.model, source=model))
    if executor is not None:
        settings = replace(settings, capture=replace(settings.capture, executor=ExecutorKind(executor)))
    if dtype is not None:
        settings = replace(settings, model=replace(settings.model, dtype=Dtype(dtype)))
    if causal_budget is not None:
        parse_limit(causal_budget, item="--causal-budget")
        settings = replace(settings, causal=replace(settings.causal, budget=causal_budget))
    if tsa is not None:
        level = SealLevel.B_T if settings.seal.level is SealLevel.B_B else settings.seal.level
        settings = replace(settings, seal=replace(settings.seal, tsa=tsa, level=level))
        check_seal(settings.seal, origin="--tsa")
    return settings


def _difference_folder(
    against: Path | None, wanted: Path | None, out: Path, *, alone: Mapping[str, object]
) -> Path | None:
    """Return where the difference goes, or None without --against.

    Raises:
        UsageError: an option of the comparison is given without --against.
        OutputError: the folder exists; told before anything runs.
    """
    from audit.errors import OutputError, UsageError

    if against is None:
        given = [name for name, value in {**alone, "--difference-out": wanted}.items() if value]
        if given:
            raise UsageError(
                item=", ".join(given),
                expected="--against BASE beside it",
                found="no base",
                hint="Name the bundle to compare with, or leave the option out.",
            )
        return None
    target = wanted or out.with_name(f"{out.name}-difference")
    if target.exists() or target.resolve() == out.resolve():
        raise OutputError(
            item=str(target),
            expected="a new folder for the difference",
            found="one that exists" if target.exists() else "the bundle's own",
            hint="Choose another --difference-out. Nothing was measured.",
        )
    return target


def _read_plan(path: Path, now: datetime) -> Plan:
    from audit.errors import UsageError
    from audit.signing.plan import read_plan

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            item=f"--plan {path}",
            expected="a plan sealed by `affidavit plan`",
            found=error.strerror or type(error).__name__,
            hint="Check the path.",
        ) from error
    return read_plan(data, item=f"--plan {path}", now=now)


def _predecessor(bundle: Path, now: datetime) -> Predecessor:
    """Return the place of the bundle that the new audit follows.

    Raises:
        EvidenceError: it does not verify: a series is not continued from a bundle that does not hold.
    """
    from audit.errors import EvidenceError
    from audit.records import Predecessor
    from audit.signing.checks import CheckStatus
    from audit.signing.verify import verify_bundle

    result = verify_bundle(bundle, trusted=None, now=now)
    if not result.ok or result.statement is None:
        wrong = next(check for check in result.checks if check.status is CheckStatus.FAIL)
        raise EvidenceError(
            item=f"--previous {bundle}",
            expected="a bundle whose checks all hold",
            found=f"{wrong.name.value}: {wrong.detail}",
            hint="Name an intact bundle. Nothing was measured.",
        )
    return Predecessor(result.statement.sequence, result.statement.digest)
