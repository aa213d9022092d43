"""Arabic and Hebrew keep to themselves: a number beside them stands where the sentence has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.packing import unpack
from reports.directions import isolated
from reports.rendering import environment
from tests.reports.browsing import WIDE, chromium, visiting
from tests.reports.fixtures.strange import ARABIC, HEBREW

WHERE = """() => [...document.querySelectorAll('b')].map(word => word.getBoundingClientRect().left)"""


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<p>3 of 5</p>", "<p>3 of 5</p>"),
        (f"<p>{ARABIC} 3 of 5</p>", f"<p><bdi>{ARABIC}</bdi> 3 of 5</p>"),
        (f"<p>{ARABIC} &amp; {HEBREW}: 3</p>", f"<p><bdi>{ARABIC} &amp; {HEBREW}</bdi>: 3</p>"),
        (f'<a title="{ARABIC}">x</a>', f'<a title="{ARABIC}">x</a>'),
        (f"<title>{ARABIC}</title>", f"<title>{ARABIC}</title>"),
        (f"<script>'{ARABIC}'</script>", f"<script>'{ARABIC}'</script>"),
        (f"<svg><text>{ARABIC}</text></svg>", f"<svg><text>{ARABIC}</text></svg>"),
        (f'<p class="tokens">{ARABIC}<b>{HEBREW}</b></p>', f'<p class="tokens">{ARABIC}<b>{HEBREW}</b></p>'),
        (ARABIC, f"<bdi>{ARABIC}</bdi>"),
    ],
)  # fmt: skip
def test_only_sentences_are_touched(markup: str, expected: str) -> None:
    """Each run from its first letter to its last; attributes, scripts, drawings and prompts stay as they are."""
    assert isolated(markup) == expected


def test_packed_rows_are_isolated_too() -> None:
    """What a page unpacks later is markup like any other."""
    packed = environment().from_string("{{ rows | packed }}").render(rows=f"<td>{ARABIC} 3</td>")
    assert f"<bdi>{ARABIC}</bdi> 3" in unpack(packed).decode()


def test_a_number_stands_where_the_sentence_has_it(tmp_path: Path) -> None:
    """In Chromium: what precedes a title is left of it and what follows is right, as the sentence is read."""
    sentence = f"<!doctype html><p>Of <b>7</b> on <b>{ARABIC}</b>, <b>3</b> changed and on {HEBREW} <b>2</b>.</p>"
    path = tmp_path / "page.html"
    with chromium() as browser:
        places = []
        for markup in (isolated(sentence), sentence):
            path.write_text(markup, encoding="utf-8")
            with visiting(browser, path, width=WIDE) as visit:
                places.append(visit.page.evaluate(WHERE))
    assert places[0] == sorted(places[0])
    assert places[1] != sorted(places[1])
