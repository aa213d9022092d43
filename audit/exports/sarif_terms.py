"""What every SARIF document of this project shares: the schema's address, and how a text becomes a message."""

from __future__ import annotations

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def message_text(text: str) -> str:
    """Return a text as a SARIF message: no link and no placeholder comes out of it (3.11.5, 3.11.6)."""
    for plain, escaped in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), ("{", "{{"), ("}", "}}")):
        text = text.replace(plain, escaped)
    return text
