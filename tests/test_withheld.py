"""Imported prompts are not printed anywhere in a bundle: an audit of a withheld suite, every part of it searched."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from audit.config import AuditConfig, ProbeConfig, SaeConfig
from audit.pipeline import run_audit
from audit.progress import Silent
from audit.records import WITHHELD_PIECE
from audit.request import AuditRequest
from audit.signing.keys import Signer
from probes.importing import ImportRequest, import_suite
from probes.loader import load_suite
from tests.conftest import MOMENT

PLACES = ["harbour", "market", "chapel", "school", "forest", "station", "bakery", "castle"]
DEEDS = ["wine", "grain", "paint", "coal"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a withheld suite of 32 scenarios, imported from a table."""
    folder = tmp_path_factory.mktemp("own")
    rows = [
        {
            "bad": f"Inspector Quimby took a bribe of {n + 2} barrels of {deed} from the {place} keeper.",
            "good": f"Inspector Quimby returned a bribe of {n + 2} barrels of {deed} to the {place} keeper.",
            "other": f"Gardener Quimby planted a row of {n + 2} bushes of {deed} roses at the {place} gate.",
        }
        for n, (place, deed) in enumerate((place, deed) for place in PLACES for deed in DEEDS)
    ]
    table = folder / "prompts.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    mapping = {"concept": "bad", "control": "good", "neutral": "other"}
    outcome = "{text} Was a bribe kept?"
    request = ImportRequest(
        table, mapping, folder / "bribes", "bribery", "Bribery", "A bribe is kept.", "Law", outcome, withheld=True
    )
    import_suite(request)
    return folder / "bribes"


@pytest.fixture(scope="module")
def bundle(suite: Path, short_config: AuditConfig, signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sealed audit of that suite."""
    config = replace(
        short_config,
        probes=ProbeConfig(suites=(str(suite),)),
        sae=SaeConfig(sources=("smollm2-135m-instruct.resid_post.15",)),
        analysis=replace(short_config.analysis, min_confirmation_scenarios=10),
        # Table texts are stranger to the SAE than prose; red would make no card, and a card is what is looked at here.
        fidelity=replace(short_config.fidelity, amber_delta_ce=5.0),
    )
    out = tmp_path_factory.mktemp("audits") / "bundle"
    return run_audit(AuditRequest(config, out, signer, MOMENT, "affidavit run"), progress=Silent()).folder


def test_no_text_is_in_any_file(bundle: Path) -> None:
    """Neither the texts nor the names in them, in the PDF as little as in the HTML, the JSON and the database."""
    pdf = subprocess.run(["pdftotext", str(bundle / "report.pdf"), "-"], capture_output=True, text=True, check=True)
    with duckdb.connect(str(bundle / "evidence.duckdb"), read_only=True) as connection:
        texts = [row[0] for row in connection.sql("SELECT text FROM prompt").fetchall()]
        pieces = {row[0] for row in connection.sql("SELECT DISTINCT piece FROM token WHERE content").fetchall()}
        around = connection.sql("SELECT piece FROM token WHERE NOT content ORDER BY prompt, position").fetchall()
        assert connection.sql("SELECT withheld FROM suite").fetchall() == [(True,)]
    assert pieces == {WITHHELD_PIECE}
    assert all(text.startswith("withheld:sha256:") for text in texts)
    html = (bundle / "report.html").read_text()
    said = {
        "pdf": pdf.stdout,
        # Cards print token by token: without marks and blanks a word that is split over tokens is whole again.
        "html": re.sub(r"<[^>]*>", "", html),
        "html source": html,
        "findings": "".join(strings(json.loads((bundle / "findings.json").read_text()))),
        "manifest": (bundle / "manifest.json").read_text(),
        "template tokens": "".join(piece for (piece,) in around),
    }
    for where, text in said.items():
        squeezed = "".join(text.split()).lower()
        for word in ("quimby", "barrels", "gardener", "inspector"):
            assert word not in squeezed, where
    assert WITHHELD_PIECE in pdf.stdout
    assert "texts are withheld" in pdf.stdout


def strings(value: object) -> Iterator[str]:
    """Yield every text of a JSON document, in order."""
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(child)


def test_whoever_has_the_suite_can_check_the_digests(bundle: Path, suite: Path) -> None:
    """The digest is that of salt and prompt; the length stands behind it."""
    loaded = load_suite(str(suite))
    first = loaded.concepts[0].scenarios[0]
    assert loaded.salt is not None
    expected = {
        f"withheld:sha256:{sha256((loaded.salt + told).encode()).hexdigest()}:{len(told)}"
        for frame in loaded.frames
        for told in (frame.wrap(text) for text in first.arms.values())
    }
    with duckdb.connect(str(bundle / "evidence.duckdb"), read_only=True) as connection:
        query = "SELECT text FROM prompt WHERE scenario = ? AND frame <> 'outcome'"
        found = {row[0] for row in connection.execute(query, [first.id]).fetchall()}
    assert found == expected
    assert loaded.salt.encode() not in (bundle / "manifest.json").read_bytes()


def test_a_card_shows_how_strongly_and_not_on_what(bundle: Path) -> None:
    """Squares with activations: the evidence stays, the words do not."""
    findings = json.loads((bundle / "findings.json").read_text())
    assert findings["suites"][0]["withheld"] is True
    tokens = [token for card in findings["cards"] for context in card["contexts"] for token in context["tokens"]]
    assert tokens
    shown = [token for token in tokens if token["text"] == WITHHELD_PIECE]
    assert any(token["activation"] > 0 for token in shown)


def test_a_withheld_text_gives_no_label_by_tokens(bundle: Path) -> None:
    """The card says why; the label by concept needs no text and is scored."""
    cards = json.loads((bundle / "findings.json").read_text())["cards"]
    for card in cards:
        labels = {label["source"]: label for label in card["labels"]}
        assert labels["tokens"]["text"] is None
        assert "withheld" in labels["tokens"]["note"]
        assert labels["concept"]["text"] is None or labels["concept"]["score"] is not None
        assert card["selectivity"] is None
