"""The command group, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

import click

from audit import __version__
from audit.cli.approve import approve
from audit.cli.chain import chain
from audit.cli.demo import demo
from audit.cli.diff import diff
from audit.cli.export import export
from audit.cli.gate import gate
from audit.cli.keys import keys
from audit.cli.labels import labels
from audit.cli.plan import plan
from audit.cli.policy import policy
from audit.cli.redact import redact
from audit.cli.report import report
from audit.cli.run import run as run_command
from audit.cli.sae import sae
from audit.cli.shapley import shapley
from audit.cli.sql import sql
from audit.cli.steer import steer
from audit.cli.suites import suites
from audit.cli.verify import verify
from audit.errors import AffidavitError, ExitCode
from audit.install import check_installation

# Outside the documented verdicts: a defect of the tool must never read as a failed gate (1) or as broken evidence (3).
CRASH = 70
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="affidavit")
def affidavit() -> None:
    """Audit a language model: which features fire on sensitive concepts, with signed evidence.

    Exit codes: 0 pass, 1 gate failed, 2 usage, 3 evidence invalid or tampered, 4 environment.
    """


_COMMANDS = (
    demo,
    plan,
    run_command,
    report,
    export,
    verify,
    gate,
    policy,
    approve,
    chain,
    diff,
    redact,
    sql,
    suites,
    sae,
    labels,
    steer,
    shapley,
    keys,
)
for command in _COMMANDS:
    affidavit.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    sys.excepthook = _report_crash
    try:
        check_installation()
        code = affidavit.main(args=list(arguments), prog_name="affidavit", standalone_mode=False)
    except AffidavitError as error:
        from audit.signing.checks import printable

        # A message may quote a name or a cell of a bundle.
        click.echo("\n".join(printable(line) for line in f"error: {error}".split("\n")), err=True)
        return int(error.exit_code)
    except click.UsageError as error:
        error.show()
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt) as stop:
        # click turns Ctrl-C into Abort too, with the interrupt as its cause; a prompt without an answer has none.
        interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__cause__, KeyboardInterrupt)
        click.echo(
            "stopped; finished parts are kept and the same command resumes" if interrupted else "stopped", err=True
        )
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): no error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.PASS)
    return code if isinstance(code, int) else int(ExitCode.PASS)


def _report_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    sys.stderr.write(
        f"affidavit {__version__} failed; this is a defect of the tool, not a result. Exit code {CRASH}.\n"
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(CRASH)
