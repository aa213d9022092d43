"""The files of one folder that is checked: each JSON document is parsed once, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable

from audit.digests import Json
from audit.memory import rarely_collected
from audit.signing.strict_json import parse_json

ReadFile = Callable[[str], bytes]


class Documents:
    """Files by name, as their folder had them when its check began.

    Args:
        read: returns a file's bytes, the same at each call, or raises EvidenceError.
    """

    def __init__(self, read: ReadFile) -> None:
        self.read = read
        self._parsed: dict[str, Json] = {}

    def parsed(self, name: str) -> Json:
        """Return the value of a JSON file; nobody may change it.

        Raises:
            EvidenceError: there is no such file, or it is no strict JSON.
        """
        if name not in self._parsed:
            data = self.read(name)
            with rarely_collected():
                self._parsed[name] = parse_json(data, item=name)
        return self._parsed[name]
