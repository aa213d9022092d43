"""Text files to documents: what counts, what is dropped and counted, and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.digests import digest_file
from audit.errors import CorpusError, ExitCode
from audit.training.corpus import HELD_OUT_ONE_IN, load_corpus
from tests.training.conftest import make_texts, write_bytes, write_jsonl

TEXTS = make_texts(12)


@pytest.mark.parametrize("suffix", ["", ".zst", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "txt", "md"])
def test_every_form_gives_the_same_texts(tmp_path: Path, kind: str, suffix: str) -> None:
    """JSON lines or paragraphs, plain or compressed: the texts and their order are the same."""
    path = tmp_path / f"corpus.{kind}{suffix}"
    if kind in {"jsonl", "ndjson"}:
        write_jsonl(path, ({"text": text} for text in TEXTS))
    else:
        write_bytes(path, "\n\n".join(TEXTS).encode())
    corpus = load_corpus(path, seed=3)
    plain = load_corpus(write_jsonl(tmp_path / "plain.jsonl", ({"text": text} for text in TEXTS)), seed=3)
    assert [d.text for d in corpus.documents] == [d.text for d in plain.documents]
    assert sorted(d.text for d in corpus.documents) == sorted(TEXTS)
    assert corpus.digest == digest_file(path)


def test_a_long_file_is_read_whole(tmp_path: Path) -> None:
    """Lines that lie across the reader's blocks of 4 MiB lose nothing, nor does a last line without its end."""
    texts = [f"{number} " + "word " * 40_000 for number in range(50)]
    path = write_bytes(tmp_path / "long.jsonl.zst", "\n".join(json.dumps({"text": text}) for text in texts).encode())
    assert sorted(d.text for d in load_corpus(path, seed=0).documents) == sorted(texts)


def test_what_the_corpus_says_of_a_text_is_kept(tmp_path: Path) -> None:
    """Register, source and licence go with the document; a text without them is of the register `text`."""
    records = [
        {"text": "one", "register": "law", "source": "court", "licence": "CC0-1.0", "other": 3},
        {"text": "two"},
    ]
    found = {d.text: d for d in load_corpus(write_jsonl(tmp_path / "c.jsonl", records), seed=0).documents}
    assert (found["one"].register, found["one"].source, found["one"].licence) == ("law", "court", "CC0-1.0")
    assert (found["two"].register, found["two"].source, found["two"].licence) == ("text", "", "")


def test_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    """Three more copies of a text are three duplicates, and one document stays."""
    texts = [*TEXTS, TEXTS[0], TEXTS[0], TEXTS[5]]
    corpus = load_corpus(write_jsonl(tmp_path / "c.jsonl", ({"text": text} for text in texts)), seed=0)
    assert corpus.duplicates == 3
    assert len(corpus.documents) == len(TEXTS)
    assert corpus.unverified == 0


def test_unverified_licences_are_dropped_and_counted(tmp_path: Path) -> None:
    """`Unverified...` in any case is out, also where the same text has a verified licence elsewhere in the file."""
    records = [
        {"text": "out", "licence": "Unverified: scraped"},
        {"text": "both", "licence": "UNVERIFIED"},
        {"text": "both", "licence": "CC0-1.0"},
        {"text": "in", "licence": "MIT (unverified author)"},
    ]
    corpus = load_corpus(write_jsonl(tmp_path / "c.jsonl", records), seed=0)
    assert {d.text: d.licence for d in corpus.documents} == {"both": "CC0-1.0", "in": "MIT (unverified author)"}
    assert (corpus.unverified, corpus.duplicates) == (2, 0)


@settings(max_examples=30, deadline=None)
@given(lines=st.permutations(TEXTS), seed=st.integers(0, 2**32))
def test_the_order_of_lines_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], seed: int
) -> None:
    """Whatever the order in the file, a seed gives one order of documents."""
    folder = tmp_path_factory.mktemp("order")
    shuffled = load_corpus(write_jsonl(folder / "a.jsonl", ({"text": text} for text in lines)), seed=seed)
    straight = load_corpus(write_jsonl(folder / "b.jsonl", ({"text": text} for text in TEXTS)), seed=seed)
    assert shuffled.documents == straight.documents


def test_the_order_depends_on_the_seed(tmp_path: Path) -> None:
    """Another seed gives another order of the same documents, and neither is the file's."""
    path = write_jsonl(tmp_path / "c.jsonl", ({"text": text} for text in TEXTS))
    first, second = ([d.text for d in load_corpus(path, seed=seed).documents] for seed in (0, 1))
    assert first != second
    assert TEXTS not in (first, second)
    assert sorted(first) == sorted(second)


def test_one_document_in_sixty_is_held_out(tmp_path: Path) -> None:
    """Of 6,000 documents about 100 are never trained on, and the two sides share none and lose none."""
    corpus = load_corpus(write_jsonl(tmp_path / "c.jsonl", ({"text": f"text {n}"} for n in range(6000))), seed=0)
    held, train = corpus.split(held_out=True), corpus.split(held_out=False)
    assert abs(len(held) - 6000 / HELD_OUT_ONE_IN) < 30
    assert {d.text for d in held} | {d.text for d in train} == {f"text {n}" for n in range(6000)}
    assert len(held) + len(train) == 6000


def test_the_split_depends_on_the_text_alone(tmp_path: Path) -> None:
    """Another seed, other neighbours, another register and another file leave each text on its side."""
    texts = [f"text {n}" for n in range(1200)]
    first = load_corpus(write_jsonl(tmp_path / "a.jsonl", ({"text": text} for text in texts)), seed=0)
    records = ({"text": text, "register": "law", "source": "s", "licence": "l"} for text in texts[600:])
    second = load_corpus(write_jsonl(tmp_path / "b.jsonl.gz", records), seed=8)
    held = {d.text for d in first.split(held_out=True)}
    assert held & set(texts[600:]) == {d.text for d in second.split(held_out=True)}
    assert held & set(texts[600:])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "Expecting"),
        ('["text"]', '["text"]'),
        ('{"texts": "a"}', '{"texts": "a"}'),
        ('{"text": 3}', '{"text": 3}'),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, found: str) -> None:
    """The error gives file and line number, counted with empty lines, and what stands there."""
    path = write_bytes(tmp_path / "c.jsonl", f'{{"text": "good"}}\n\n{line}\n'.encode())
    with pytest.raises(CorpusError) as caught:
        load_corpus(path, seed=0)
    assert caught.value.item == "c.jsonl, line 3"
    assert found in caught.value.found
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("name", ["c.jsonl", "c.txt", "c.jsonl.gz", "c.jsonl.zst"])
def test_bytes_that_are_not_text_are_refused(tmp_path: Path, name: str) -> None:
    """Latin-1 is not UTF-8; nothing is replaced or skipped."""
    with pytest.raises(CorpusError) as caught:
        load_corpus(write_bytes(tmp_path / name, '{"text": "café"}'.encode("latin-1")), seed=0)
    assert "0xe9" in caught.value.found


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.jsonl.zst"])
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str) -> None:
    """Half an archive and an archive of another kind are told, not read as far as they go."""
    whole = write_jsonl(tmp_path / name, ({"text": text} for text in make_texts(300))).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"plain text, whatever the name says"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(CorpusError):
            load_corpus(tmp_path / name, seed=0)


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    """What a file holds is told by its name, never guessed."""
    with pytest.raises(CorpusError) as caught:
        load_corpus(write_bytes(tmp_path / "corpus.csv", b"text\nhello"), seed=0)
    assert ".jsonl" in caught.value.expected
    assert caught.value.found == "corpus.csv"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """So is a folder in its place."""
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("none.jsonl", "folder.jsonl"):
        with pytest.raises(CorpusError) as caught:
            load_corpus(tmp_path / name, seed=0)
        assert name in caught.value.item


@pytest.mark.parametrize(("name", "data"), [("c.jsonl", b""), ("c.jsonl", b"\n \n"), ("c.txt", b"\n\n\n")])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    """A corpus of nothing is not one."""
    with pytest.raises(CorpusError, match="at least one document"):
        load_corpus(write_bytes(tmp_path / name, data), seed=0)


def test_a_file_without_a_verified_licence_is_refused(tmp_path: Path) -> None:
    """The error says how many documents it would have been."""
    records = [{"text": text, "licence": "unverified"} for text in TEXTS]
    with pytest.raises(CorpusError) as caught:
        load_corpus(write_jsonl(tmp_path / "c.jsonl", records), seed=0)
    assert caught.value.found.startswith(f"{len(TEXTS)} ")


def test_a_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    r"""JSON may hold half a character (`\ud800`), which no UTF-8 can: the line is named."""
    with pytest.raises(CorpusError) as caught:
        load_corpus(write_bytes(tmp_path / "c.jsonl", b'{"text": "x \\ud800 y"}\n'), seed=0)
    assert caught.value.item == "c.jsonl, line 1"


def test_paragraphs_end_in_any_line_end(tmp_path: Path) -> None:
    """A text file from Windows has as many documents as the same file from Linux."""
    path = write_bytes(tmp_path / "c.txt", "\r\n\r\n".join(TEXTS).encode())
    assert len(load_corpus(path, seed=0).documents) == len(TEXTS)
