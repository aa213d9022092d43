"""A pseudo-language of other letters, and a walk through a page that finds every word left in ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from html.parser import HTMLParser

from audit.digests import Json, canonical_json
from audit.frameworks.files import shipped_frameworks
from audit.packing import PACKED_TYPE, unpack
from audit.records import BaselineKind, Colour, Contrast, Findings, Reading, Rung, RunInfo, Withheld, as_json
from audit.records.association import ControlKind
from audit.records.causal import PairWord
from audit.records.graph import EdgeKind, Layer
from audit.records.interaction import MixWord
from audit.records.words import Lexical
from reports import queries
from reports.numbers import visible, visible_token
from tests.reports.catalogue import messages
from tests.reports.fixtures.audits import make_run

# Reserved for local use by ISO 639-2.
PSEUDO = "qaa"
COPY = Withheld(parts=("dosing_error",), prompts=3, labels=1, continuations=2, texts=9, statement="sha256:" + "ab" * 32)
# One letter of another script for each of ours: what is left in ours was not translated, even inside a sentence.
LETTERS = {
    **{chr(ord("A") + n): chr(0x0410 + n) for n in range(26)},
    **{chr(ord("a") + n): chr(0x0430 + n) for n in range(26)},
}


def many(findings: Findings) -> Findings:
    """Return so many concepts that paper and page hold only the answers at first."""
    concepts = tuple(
        replace(concept, id=f"{concept.id}_{number}") for number in range(9) for concept in findings.concepts
    )
    return replace(findings, concepts=concepts, cards=findings.cards[:1] * 30)


def failed(findings: Findings) -> Findings:
    """Return results that a failed check and red instruments take back."""
    saes = tuple(replace(sae, fidelity=replace(sae.fidelity, colour=Colour.RED)) for sae in findings.saes)
    return replace(findings, saes=saes, permutation_control=replace(findings.permutation_control, passed=False))


def empty(findings: Findings) -> Findings:
    """Return an audit of nothing."""
    return replace(findings, concepts=(), cards=(), mixes=(), cofiring=(), causal=None, not_tested=())


def pseudo(message: str) -> str:
    """Return a message with other letters, and its placeholders kept."""
    kept = re.split(r"(\{\w+\})", message)
    return "".join(part if part.startswith("{") else part.translate(str.maketrans(LETTERS)) for part in kept)


def pseudo_file() -> str:
    """Return a whole translation: every message of the template in the pseudo-language."""
    entries = messages()
    entries.metadata |= {"Language": PSEUDO, "Plural-Forms": "nplurals=2; plural=(n != 1);"}
    for entry in entries:
        if entry.msgid_plural:
            entry.msgstr_plural = {0: pseudo(entry.msgid), 1: pseudo(entry.msgid_plural)}
        else:
            entry.msgstr = pseudo(entry.msgid)
    return str(entries)


def run_in(findings: Findings, code: str) -> RunInfo:
    """Return a run that chose a language."""
    run = make_run(findings)
    return replace(run, config={**run.config, "report": {"title": "Model audit report", "language": code}})


def strings(value: object) -> Iterator[str]:
    """Yield every text in a value but the stored words."""
    if isinstance(value, str):
        if not isinstance(value, Enum):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list | tuple | frozenset):
        for item in value:
            yield from strings(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from strings(getattr(value, name))


class Words(HTMLParser):
    """Collects what a reader sees or hears: text, alternatives of drawings, names and titles; packed parts too."""

    HEARD = frozenset({"title", "alt", "aria-label", "data-label", "placeholder", "label"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.drawn: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what the attributes say."""
        named = dict(attrs)
        if tag not in {"meta", "link", "input", "br", "wbr"}:
            self._open.append((tag, named))
        self.found += [value for name, value in attrs if name in self.HEARD and value]
        if tag == "meta" and named.get("name") in {"description", "keywords"}:
            self.found.append(str(named["content"]))

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Keep text that is shown or spoken; names of queries, digests and commands are code."""
        tags = {tag for tag, _named in self._open}
        if "script" in tags:
            if self._open[-1][1].get("type") == PACKED_TYPE and self._open[-1][1].get("id") is None:
                inner = Words(unpack(data).decode("utf-8"))
                self.found += inner.found
                self.drawn += inner.drawn
        elif any(named.get("class") == "tokens" for _tag, named in self._open):
            pass  # the model's tokens, letter by letter
        elif not tags & {"style", "code", "pre"} and data.strip():
            (self.drawn if "text" in tags else self.found).append(" ".join(data.split()))


STORED = {
    str(member)
    for stored in (
        *(Rung, Colour, Reading, Contrast, Lexical, BaselineKind, ControlKind, Layer, MixWord, PairWord, EdgeKind),
    )
    for member in stored
}
SHORTEST = 4
_DIGEST = re.compile(r"sha256:[0-9a-f]+")
# Printed in every language as it is: the product, what is said in formulas, files and units.
EVERYWHERE = (
    *("affidavit", "findings.json", "d_z", "UTC", "U+"),
    *(getattr(queries, name) for name in dir(queries) if name.isupper()),
)


def record_texts(findings: Findings, run: RunInfo) -> list[str]:
    """Return what the record and the files of the frameworks say, longest first; the report has it as it is.

    Tokens of prompts and stored words are left out: among them are words of any sentence.
    """
    tokens = {token.text.strip() for card in findings.cards for context in card.contexts for token in context.tokens}
    quoted = {
        *tokens,
        *(text for one in findings.concepts if one.outcome for text in (one.outcome.target, one.outcome.foil)),
    }
    data: Json = json.loads(canonical_json(as_json(findings)))
    found = {" ".join(visible(text).split()) for text in strings(data)}
    found |= {*run.environment, *strings(run.environment), *strings(run.config)}
    found |= {" ".join(text.split()) for framework in shipped_frameworks() for text in strings(framework)}
    found |= {text.replace("_", "-") for text in found} | {text.capitalize() for text in found}
    found |= {run.command, run.tool_version, run.bundle_name, *strings(run.seal), *COPY.parts}
    labels = {visible_token(label.text) for card in findings.cards for label in card.labels if label.text}
    return [*sorted((found - STORED - tokens) | labels, key=len, reverse=True), *(f"“{text}”" for text in quoted)]


def left_in_english(found: list[str], known: list[str]) -> list[str]:
    """Return what is neither translated nor of the record: words in our letters beside the texts of the record.

    Short texts of the record count only where they are all that stands in a place.
    """
    left = []
    long = [text for text in known if len(text) >= SHORTEST and re.search("[A-Za-z]{2}", text)]
    long = sorted([*EVERYWHERE, *long], key=len, reverse=True)
    short = {text for text in known if len(text) < SHORTEST}
    for text in dict.fromkeys(found):
        rest = _DIGEST.sub(" ", text)
        for one in long if re.search("[A-Za-z]{2}", rest) else ():
            if one in rest:
                rest = re.sub(rf"(?<![A-Za-z]){re.escape(one)}(?![A-Za-z])", " ", rest)
        if text not in short and re.search("[A-Za-z]{2}", rest):
            left.append(f"{' '.join(rest.split())[:160]} <- {text[:100]}")
    return left
