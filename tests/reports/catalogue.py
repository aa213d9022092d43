"""Collects every message that the reports print, and writes the template of translations; `make catalogue` runs it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import polib

from reports.rendering import MESSAGE, environment

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "templates" / "languages" / "affidavit.pot"
# Function -> the places of its messages among the arguments.
FUNCTIONS = {"_": (0,), "N_": (0,), "ngettext": (0, 1), "plural": (1, 2)}
_WIDTH = 120


def messages() -> polib.POFile:
    """Return the template: each message once, with the files that print it, in the order of files and lines.

    Raises:
        ValueError: a message in Python code is not written out as a literal, so that no extractor finds it.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((ROOT / "reports").rglob("*.py")):
        _note(found, path, _in_python(path))
    for path in sorted((ROOT / "templates" / "report").rglob("*.j2")):
        _note(found, path, _in_template(path))
    styles = (ROOT / "templates" / "css" / name for name in ("difference_pdf.css", "pdf.css"))
    for path in (ROOT / "templates" / "report" / "screen.js", *styles):
        _note(found, path, ((message, "") for message in MESSAGE.findall(path.read_text(encoding="utf-8"))))
    template = polib.POFile(wrapwidth=_WIDTH)
    template.metadata = {
        "Project-Id-Version": "affidavit",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
    }
    for (one, several), files in found.items():
        template.append(
            polib.POEntry(
                msgid=one,
                msgid_plural=several,
                msgstr_plural={0: "", 1: ""} if several else {},
                occurrences=[(file, "") for file in dict.fromkeys(files)],
                flags=["python-brace-format"] if "{" in one else [],
            )
        )
    return template


def _note(found: dict[tuple[str, str], list[str]], path: Path, entries: Iterator[tuple[str, str]]) -> None:
    for entry in entries:
        found.setdefault(entry, []).append(path.relative_to(ROOT).as_posix())


def _in_python(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the messages of a module with their plurals; words that are looked up later are marked where they stand."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    ]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        texts = [call.args[place] for place in FUNCTIONS[name]]
        literal = [text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)]
        if len(literal) == len(texts):
            yield literal[0], literal[1] if len(literal) > 1 else ""
        elif any(isinstance(text, ast.JoinedStr | ast.BinOp) for text in texts):
            raise ValueError(f"{path.name}, line {call.lineno}: write the message as a literal with {{placeholders}}")


def _in_template(path: Path) -> Iterator[tuple[str, str]]:
    source = path.read_text(encoding="utf-8")
    for _line, function, found in environment().extract_translations(source, ("_", "ngettext")):  # type: ignore[attr-defined]
        texts = [text for text in ((found,) if isinstance(found, str) else found) if text is not None]
        yield texts[0], texts[1] if function == "ngettext" else ""


if __name__ == "__main__":
    TEMPLATE.write_text(str(messages()), encoding="utf-8")
