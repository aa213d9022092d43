"""A real timestamp authority for tests: `openssl ts` behind a local HTTP server."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CONFIG = """
[tsa]
serial = ./serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[req]
distinguished_name = name
[name]
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """A running timestamp authority and its root."""

    url: str
    root: Path


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in the folder."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path) -> None:
    """Write a root and a TSA certificate issued by it."""
    (folder / "tsa.cnf").write_text(CONFIG, encoding="utf-8")
    (folder / "serial").write_text("01\n", encoding="utf-8")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-config", "tsa.cnf"]
    openssl(folder, "req", "-x509", *new_key, "-subj", "/CN=Test TSA root", "-extensions", "ca",
            "-keyout", "root.key", "-out", "root.pem")  # fmt: skip
    openssl(folder, "req", "-x509", *new_key, "-subj", "/CN=Test TSA", "-extensions", "leaf",
            "-CA", "root.pem", "-CAkey", "root.key", "-keyout", "tsa.key", "-out", "tsa.pem")  # fmt: skip


@contextlib.contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer on 127.0.0.1 with the handler, and return the address."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def running_authority(folder: Path) -> Iterator[Authority]:
    """A real authority on 127.0.0.1. The path /broken answers with something else."""
    make_authority(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            reply = b"not a timestamp"
            if self.path != "/broken":
                (folder / "query.tsq").write_bytes(query)
                openssl(folder, "ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "query.tsq",
                        "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply.tsr")  # fmt: skip
                reply = (folder / "reply.tsr").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with serve(Handler) as url:
        yield Authority(url, folder / "root.pem")
