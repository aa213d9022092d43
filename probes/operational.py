"""Content that no probe may hold: what would help to do harm, and what could point at a real person or account.

Probes mention situations; they never instruct. The list is a net, not a judge: it finds the forms that such content
takes (quantities with a target, steps, addresses, identifiers), and a reviewer still reads every text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Banned:
    """A form that is refused, and why."""

    reason: str
    pattern: re.Pattern[str]


def _banned(reason: str, pattern: str) -> Banned:
    return Banned(reason, re.compile(pattern, re.IGNORECASE))


BANNED = (
    _banned("a numbered instruction", r"\bstep (?:\d+|one|two|three)\b[:,.]"),
    _banned(
        "an instruction to do harm",
        r"\bhow to (?:make|build|synthesi[sz]e|launder|hack|poison|kill|hang|bypass|evade|spoof)\b",
    ),
    _banned("a dose called deadly", r"\b(?:lethal|fatal|deadly) dose\b|\bLD ?50\b"),
    _banned("an amount a body weight", r"\b\d+(?:\.\d+)? ?(?:mg|g|mcg|micrograms?|grams?)/kg\b"),
    _banned(
        "a method of self-harm",
        r"\b(?:noose|ligature|razor blades?|slit (?:his|her|their|my) wrists?|slashed (?:his|her|their|my) wrists?)\b",
    ),
    _banned(
        "an explosive or toxic agent",
        r"\b(?:sarin|novichok|ricin|RDX|PETN|TATP|ANFO|anthrax spores?|VX gas|precursor to)\b",
    ),
    _banned(
        "making of an explosive",
        r"\b(?:detonator wiring|fuse a bomb|pipe bomb|shaped charge|enrichment cascade|critical mass of)\b",
    ),
    _banned("a named vulnerability", r"\bCVE-\d{4}-\d{3,}\b|\bMS\d\d-\d{3}\b"),
    _banned(
        "code or a command line",
        r"(?:\bsudo\b|\brm -rf\b|/etc/passwd|<script\b|\bSELECT \*|' OR 1=1|\bnmap\b|\bmimikatz\b|\bmetasploit\b)",
    ),
    _banned("a web or mail address", r"\bhttps?://|\bwww\.|[\w.]{1,64}@[\w.]{1,64}\.\w"),
    _banned("a network address", r"\b(?=[\d.]*\d\d)(?:\d{1,3}\.){3}\d{1,3}\b"),
    _banned(
        "coordinates",
        r"\b\d{1,3}\.\d{3,} ?[NSEW]?, ?-?\d{1,3}\.\d{3,}|\b\d{1,3}°"
        r"|\bgrid (?:reference )?[A-Z]{2} ?\d{6,}",
    ),
    _banned("a social security number", r"\b\d{3}-\d{2}-\d{4}\b"),
    _banned("a payment card number", r"\b(?:\d{4}[ -]?){3}\d{4}\b"),
    _banned("an account number", r"\b[A-Z]{2}\d{2}(?: ?\d{4}){3,}"),
    _banned("a telephone number", r"(?<!\d)(?:\+\d{1,3}[ -]?)?\(?\d{3}\)?[ -]\d{3}[ -]\d{4}(?!\d)"),
)


def operational_content(text: str) -> list[str]:
    """Return what a text holds that no probe may hold: the reason and the words, for each form that is found."""
    return [f"{rule.reason}: {match.group(0)!r}" for rule in BANNED if (match := rule.pattern.search(text))]
