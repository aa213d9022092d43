"""A server on this machine that speaks what the hub's client asks: listings, file heads with a commit, and files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "owner/gated"


@dataclass
class HubServer:
    """What runs: its address, and the files that were asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """A status with its content and headers."""

    status: int
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, code: str) -> Answer:
    """Return an error with the word that the client knows it by."""
    return Answer(status, headers={"X-Error-Code": code})


@dataclass(frozen=True)
class Repositories:
    """Folders `root/OWNER/REPOSITORY/...` as model repositories with a branch `main` at one commit."""

    root: Path

    def answer(self, path: str) -> Answer:
        """Return what the hub says to a path."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        repo = "/".join(parts[:2])
        if repo == GATED:
            return refusal(403, "GatedRepo")
        if not (self.root / repo).is_dir():
            return refusal(404, "RepoNotFound")
        if len(parts) > 3 and parts[3] not in {"main", COMMIT}:
            return refusal(404, "RevisionNotFound")
        if not api:
            return self._file(self.root / repo, "/".join(parts[4:]))
        return Answer(200, json.dumps(self._tree(repo) if "tree" in parts[2:3] else self._info(repo)).encode())

    def _files(self, repo: str) -> dict[str, Path]:
        folder = self.root / repo
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def _info(self, repo: str) -> dict[str, object]:
        return {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self._files(repo)]}

    def _tree(self, repo: str) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": _oid(path)}
            for name, path in self._files(repo).items()
        ]

    def _file(self, folder: Path, name: str) -> Answer:
        path = folder / name
        if not path.is_file():
            return refusal(404, "EntryNotFound")
        return Answer(200, path.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{_oid(path)}"', "X-Name": name})


@contextmanager
def serving(root: Path) -> Iterator[HubServer]:
    """Serve repositories.

    Connections end with each answer: none may outlive the server, whose end stands for a lost network.
    """
    repositories, server = Repositories(root), HubServer("")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            """Answer with contents, or the part of them that was asked for."""
            answer = self._answer()
            if name := answer.headers.get("X-Name"):
                server.asked.append(name)
            self.wfile.write(answer.content)

        def do_HEAD(self) -> None:
            """Answer with headers alone."""
            self._answer()

        def _answer(self) -> Answer:
            answer = repositories.answer(self.path)
            if (wanted := self.headers.get("Range")) and answer.status == 200:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                answer = Answer(206, answer.content[int(first) : int(last) + 1 if last else None], answer.headers)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.content)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return answer

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def _oid(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 - git's own identifiers
