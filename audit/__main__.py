"""The `affidavit` command. Errors become exit codes here and nowhere else."""

from __future__ import annotations

import sys

from audit.cli.root import run

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with the documented code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
