"""Text to train on and to hold out: documents with their register and licence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from audit.digests import digest_file
from audit.errors import CorpusError

HELD_OUT_ONE_IN = 60
DEFAULT_REGISTER = "text"
_UNVERIFIED = "unverified"
_COMPRESSIONS = {".zst": "zstd", ".gz": "gzip"}


@dataclass(frozen=True, slots=True)
class Document:
    """One text with what its corpus says of it.

    Args:
        digest: SHA-256 of the text, hexadecimal; it decides the split and the order, so neither depends on the file.
            Of equal texts the first one's register, source and licence count.
    """

    text: str
    register: str
    source: str
    licence: str
    digest: str

    @property
    def held_out(self) -> bool:
        """Tell whether this document is never trained on: one in 60, by digest."""
        return int(self.digest, 16) % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True, slots=True)
class Corpus:
    """The usable documents of a file, in an order that their digests and a seed decide.

    Args:
        documents: without duplicates and without unverified licences.
        digest: of the file.
        duplicates: how many documents were dropped because an equal one came before.
        unverified: how many were dropped because their licence is marked unverified.
    """

    name: str
    documents: tuple[Document, ...]
    digest: str
    duplicates: int
    unverified: int

    def split(self, *, held_out: bool) -> tuple[Document, ...]:
        """Return the documents of one side of the split, in order."""
        return tuple(d for d in self.documents if d.held_out is held_out)


def load_corpus(path: Path, *, seed: int) -> Corpus:
    """Read a corpus and shuffle it.

    Args:
        path: JSON lines with `text` and, where known, `register`, `source` and `licence`; or plain text, one document
        a paragraph. Either may be compressed (`.zst`, `.gz`). All of it is held in memory.
        seed: of the order.

    Raises:
        CorpusError: the file cannot be read, is not of this form, or has no usable document.
    """
    seen: dict[str, Document] = {}
    duplicates = unverified = 0
    for document in _read(path):
        if document.licence.lower().startswith(_UNVERIFIED):
            unverified += 1
        elif document.digest in seen:
            duplicates += 1
        else:
            seen[document.digest] = document
    if not seen:
        raise CorpusError(
            item=str(path),
            expected="at least one document with a verified licence",
            found=f"{unverified} with an unverified one, no other",
            hint="Give another file.",
        )
    ordered = sorted(seen.values(), key=lambda d: hashlib.sha256(f"{seed}:{d.digest}".encode()).digest())
    return Corpus(path.name, tuple(ordered), digest_file(path), duplicates, unverified)


def _read(path: Path) -> Iterator[Document]:
    if ".jsonl" in path.suffixes or ".ndjson" in path.suffixes:
        for number, line in enumerate(_lines(path), 1):
            document = _parse(line, where=f"{path.name}, line {number}") if line.strip() else None
            if document is not None and document.text.strip():
                yield document
        return
    if ".txt" in path.suffixes or ".md" in path.suffixes:
        for paragraph in "".join(_lines(path)).replace("\r\n", "\n").split("\n\n"):
            if text := paragraph.strip():
                yield _document(text, {})
        return
    raise CorpusError(
        item=str(path),
        expected="a .jsonl or .txt file, plain or compressed as .zst or .gz",
        found=path.name,
        hint="Rename the file by what it holds.",
    )


def _lines(path: Path) -> Iterator[str]:
    try:
        with pa.input_stream(str(path), compression=_COMPRESSIONS.get(path.suffix)) as stream:
            rest = b""
            while block := stream.read(1 << 22):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8") + "\n"
            if rest:
                yield rest.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            item=str(path), expected="a readable UTF-8 text file", found=str(error), hint="Check the path and the file."
        ) from error


def _parse(line: str, *, where: str) -> Document:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(item=where, expected="a JSON object", found=str(error), hint="Mend the line.") from error
    if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
        raise CorpusError(
            item=where, expected='an object with a text under "text"', found=line[:60].strip(), hint="Mend the line."
        )
    try:
        return _document(record["text"], record)
    except UnicodeEncodeError as error:
        raise CorpusError(
            item=where, expected="a text of whole characters", found=str(error), hint="Take out the half character."
        ) from error


def _document(text: str, record: Mapping[str, object]) -> Document:
    return Document(
        text=text,
        register=str(record.get("register") or DEFAULT_REGISTER),
        source=str(record.get("source") or ""),
        licence=str(record.get("licence") or ""),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
