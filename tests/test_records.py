"""Records come back from JSON as they were, and nothing else comes back."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.digests import canonical_json
from audit.errors import EvidenceError
from audit.records import (
    Certificate,
    Colour,
    Estimate,
    Fidelity,
    Findings,
    SeedStability,
    TrainingPoint,
    as_json,
    parse_record,
)
from tests.reports.fixtures.audits import make_findings

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**53)
TEXTS = st.text(max_size=20)
ESTIMATES = st.builds(Estimate, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)
FIDELITIES = st.builds(
    Fidelity,
    sae=TEXTS,
    scope=TEXTS,
    tokens=COUNTS,
    fvu=NUMBERS,
    cosine=NUMBERS,
    l0_mean=NUMBERS,
    l0_p05=NUMBERS,
    l0_p95=NUMBERS,
    dead_share=st.none() | NUMBERS,
    dense_share=st.none() | NUMBERS,
    spliced_tokens=COUNTS,
    delta_ce=st.none() | ESTIMATES,
    ce=st.none() | NUMBERS,
    ce_recovered=st.none() | NUMBERS,
    kl=st.none() | NUMBERS,
    kl_ratio=st.none() | NUMBERS,
    colour=st.sampled_from(Colour),
    reason=TEXTS,
)
STABILITIES = st.builds(
    SeedStability,
    other=TEXTS,
    other_digest=TEXTS,
    threshold=NUMBERS,
    share_decoder=NUMBERS,
    share_both=NUMBERS,
    random_share=NUMBERS,
    median_cosine=NUMBERS,
    cosines=st.lists(NUMBERS, max_size=4).map(tuple),
)
POINTS = st.builds(
    TrainingPoint, updates=COUNTS, fvu_plain=st.none() | NUMBERS, fvu_chat=st.none() | NUMBERS, dead=COUNTS
)
CERTIFICATES = st.builds(
    Certificate,
    **dict.fromkeys(
        ("schema", "sae", "sae_digest", "site", "model", "model_digest", "dtype", "text", "text_digest", "selection"),
        TEXTS,
    ),
    **dict.fromkeys(("documents", "sequences", "tokens", "outliers"), COUNTS),
    outlier_limit=NUMBERS,
    rows=st.lists(FIDELITIES, max_size=2).map(tuple),
    stability=st.none() | STABILITIES,
    curve=st.lists(POINTS, max_size=3).map(tuple),
    tool=TEXTS,
)


def fidelity(scope: str) -> Fidelity:
    """Return a row in which nothing is None."""
    return Fidelity(
        sae="small",
        scope=scope,
        tokens=1000,
        fvu=0.1,
        cosine=0.95,
        l0_mean=4.5,
        l0_p05=3.0,
        l0_p95=5.0,
        dead_share=0.25,
        dense_share=0.5,
        spliced_tokens=100,
        delta_ce=Estimate(0.2, 0.1, 0.3),
        ce=3.0,
        ce_recovered=0.9,
        kl=0.05,
        kl_ratio=0.5,
        colour=Colour.AMBER,
        reason="because",
    )


WHOLE = Certificate(
    schema="affidavit/sae-certificate/1",
    sae="small",
    sae_digest="sha256:1",
    site="resid_post.2",
    model="model",
    model_digest="sha256:2",
    dtype="fp32",
    text="corpus.jsonl",
    text_digest="sha256:3",
    selection="all documents",
    documents=3,
    sequences=4,
    tokens=1000,
    outliers=5,
    outlier_limit=12.5,
    rows=(fidelity("all"), fidelity("plain")),
    stability=SeedStability("twin", "sha256:4", 0.7, 0.5, 0.4, 0.0, 0.6, (0.9, 0.3)),
    curve=(TrainingPoint(100, 0.5, 0.6, 7), TrainingPoint(200, 0.4, 0.5, 6)),
    tool="affidavit 0",
)

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every place of a JSON value with what stands there, the whole first."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def written(path: Path) -> str:
    """Return a path as errors write it."""
    return "file" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def plain() -> Any:
    """Return a fresh copy of the whole certificate as JSON values."""
    return json.loads(json.dumps(as_json(WHOLE)))


def at(value: Any, path: Path) -> Any:
    """Return what stands at a path."""
    for step in path:
        value = value[step]
    return value


def words(error: EvidenceError) -> set[str]:
    """Return the words of what an error is about and what it found."""
    return set(re.findall(r"\w+", f"{error.item} {error.found}"))


def refused(value: Any) -> EvidenceError:
    """Return the error with which a JSON value is refused as a certificate."""
    with pytest.raises(EvidenceError) as caught:
        parse_record(Certificate, value, where="file")
    return caught.value


@settings(deadline=None, max_examples=40)
@given(CERTIFICATES)
def test_a_certificate_comes_back_as_it_was(certificate: Certificate) -> None:
    """Through the bytes of a file, with every None, tuple and enum."""
    assert parse_record(Certificate, json.loads(json.dumps(as_json(certificate)))) == certificate
    assert parse_record(Certificate, json.loads(canonical_json(as_json(certificate)))) == certificate


@settings(deadline=None)
@given(FIDELITIES)
def test_a_fidelity_comes_back_as_it_was(row: Fidelity) -> None:
    """Its colour is an enum again and its interval a record."""
    back = parse_record(Fidelity, as_json(row))
    assert back == row
    assert isinstance(back.colour, Colour)
    assert back.delta_ce is None or isinstance(back.delta_ce, Estimate)


@settings(deadline=None)
@given(STABILITIES)
def test_a_stability_comes_back_as_it_was(stability: SeedStability) -> None:
    """Its cosines are a tuple again."""
    assert parse_record(SeedStability, as_json(stability)) == stability


def test_a_whole_number_is_read_as_the_float_that_it_was() -> None:
    """Other writers of JSON drop the `.0`; a fraction where a count belongs is refused."""
    value = plain()
    value["outlier_limit"] = 12
    back = parse_record(Certificate, value)
    assert back.outlier_limit == 12
    assert isinstance(back.outlier_limit, float)
    value["tokens"] = 1000.0
    assert refused(value).item == "file.tokens"


def test_a_missing_or_unknown_field_is_named() -> None:
    """In the certificate and in every record inside it: the path of the record and the name of the field."""
    records = [(path, value) for path, value in places(plain()) if isinstance(value, dict)]
    assert len(records) == 8
    for path, record in records:
        for name in record:
            value = plain()
            del at(value, path)[name]
            error = refused(value)
            assert error.item.startswith(written(path))
            assert name in words(error), (path, name)
        value = plain()
        at(value, path)["surplus"] = 1
        error = refused(value)
        assert error.item.startswith(written(path))
        assert "surplus" in words(error), path


def test_a_wrong_type_is_named_at_every_place() -> None:
    """Text for numbers, numbers for text, true for 1, a list for a record, a record for a word."""
    tried = 0
    for path, good in places(plain()):
        for wrong in ("1", 1, 1.5, True, None, [], [1], {}, {"a": 1}):
            same_kind = type(wrong) is type(good) or (isinstance(good, float) and type(wrong) is int)
            if same_kind or (wrong is None and nullable(path)):
                continue
            if path:
                value = plain()
                at(value, path[:-1])[path[-1]] = copy.deepcopy(wrong)
            else:
                value = wrong
            assert refused(value).item == written(path), (path, wrong)
            tried += 1
    assert tried > 500


def nullable(path: Path) -> bool:
    """Tell whether None may stand at a path."""
    return path[-1:] and path[-1] in {
        "dead_share",
        "dense_share",
        "delta_ce",
        "low",
        "high",
        "ce",
        "ce_recovered",
        "kl",
        "kl_ratio",
        "stability",
        "fvu_plain",
        "fvu_chat",
    }


@pytest.mark.parametrize("word", ["purple", "GREEN", "Colour.GREEN", ""])
def test_a_word_that_the_enum_lacks_is_named(word: str) -> None:
    """Stored words are exact."""
    value = plain()
    value["rows"][1]["colour"] = word
    error = refused(value)
    assert error.item == "file.rows[1].colour"
    assert repr(word) in error.found


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_never_enter_evidence(number: float) -> None:
    """Canonical JSON refuses NaN and infinity and says where they stand."""
    value = plain()
    value["rows"][1]["delta_ce"]["low"] = number
    with pytest.raises(EvidenceError, match=r"rows\[1\]\.delta_ce\.low"):
        canonical_json(value)
    assert canonical_json(plain())


def test_a_table_of_counts_comes_back_and_its_values_are_checked() -> None:
    """Such as the ladder: any key, values of one type, the wrong one named."""
    assert parse_record(dict[str, int], {"confirmed": 3}) == {"confirmed": 3}
    for value, place in (({"confirmed": "3"}, r"ladder\.confirmed"), ([3], "ladder")):
        with pytest.raises(EvidenceError, match=place):
            parse_record(dict[str, int], value, where="ladder")


def test_whole_findings_come_back_as_they_were() -> None:
    """Every kind of record of an audit."""
    findings = make_findings()
    assert parse_record(Findings, json.loads(canonical_json(as_json(findings)))) == findings
