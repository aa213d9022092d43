"""Text that is read from right to left, in sentences that are read from left to right."""

from __future__ import annotations

import re

# Hebrew, Arabic, Syriac, Thaana, N'Ko and their neighbours; presentation forms; the right-to-left blocks beyond them.
_RIGHT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
_ANY = re.compile(_RIGHT)
_RUN = re.compile(f"{_RIGHT}(?:[^<>]*{_RIGHT})?")
# A prompt is one text in several elements, with a direction of its own; the others hold no sentence, or no elements.
_WHOLE = re.compile(r'<(script|style|svg|title)\b.*?</\1>|<p class="tokens".*?</p>|<[^>]*>', re.DOTALL)


def isolated(markup: str) -> str:
    """Return a page in which each run of right-to-left text keeps to itself.

    Without it a number that follows a title in Arabic is drawn on the title's other side, beside a number of another
    thing (Unicode Standard Annex 9).
    """
    if not _ANY.search(markup):
        return markup
    parts, end = [], 0
    for match in _WHOLE.finditer(markup):
        parts += [_RUN.sub(r"<bdi>\g<0></bdi>", markup[end : match.start()]), match[0]]
        end = match.end()
    return "".join((*parts, _RUN.sub(r"<bdi>\g<0></bdi>", markup[end:])))
