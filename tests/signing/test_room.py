"""The room sees bytes only: verifying loads none of the heavy libraries, and help loads none at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORBIDDEN = ("duckdb", "jinja2", "torch", "transformers", "pandas", "weasyprint", "matplotlib", "pyarrow", "reports")
PRINT_MODULES = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after the code."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PRINT_MODULES}"], cwd=root, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_verifying_loads_no_forbidden_library(sealed_bundle: Path) -> None:
    """A whole verification in a fresh process."""
    code = (
        "from pathlib import Path; from audit.signing.verify import verify_bundle\n"
        f"assert verify_bundle(Path({str(sealed_bundle)!r}), trusted=None).ok"
    )
    loaded = modules_after(code)
    assert "pyhanko" in loaded
    assert loaded.isdisjoint(FORBIDDEN)


def test_pyhanko_is_loaded_only_for_a_pdf() -> None:
    """Importing the room's modules loads neither pyHanko nor pikepdf."""
    loaded = modules_after("import audit.signing.verify, audit.signing.seal, audit.signing.pdf, audit.signing.keys")
    assert loaded.isdisjoint({"pyhanko", "pikepdf", "requests", *FORBIDDEN})


def test_the_keys_command_loads_nothing_heavy() -> None:
    """`affidavit keys --help` answers at once."""
    assert modules_after("import audit.cli.keys").isdisjoint({"cryptography", "pyhanko", *FORBIDDEN})
