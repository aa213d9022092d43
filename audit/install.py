"""Guard: the four packages come from one installation.

Their names are generic. A `templates` or `reports` folder in the user's working directory must never be imported in
place of
ours: it would decide what a signed report says.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from audit.errors import InstallationBroken

PACKAGES = ("audit", "probes", "reports", "templates")


def check_installation() -> None:
    """Refuse to run unless all four packages lie side by side in one folder.

    Raises:
        InstallationBroken: one is missing, is a namespace without `__init__.py`, or comes from another folder.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin != home / name / "__init__.py":
            raise InstallationBroken(
                item=f"package {name}",
                expected=str(home / name / "__init__.py"),
                found="no regular package" if origin is None else str(origin),
                hint="Another folder or distribution of that name is in the way: run from another directory,"
                " or reinstall affidavit in a virtual environment of its own.",
            )
