"""What labels of feature cards read, on small shards with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.capture.shards import RowBlock, SequenceMoments, make_shard, write_shard
from audit.evidence import scores
from audit.evidence.cards import read_token_use, read_topic_scores
from audit.evidence.store import ACTIVATIONS, Store, create_store
from audit.records import Quantile

SAE = "s"
# prompt: concept, scenario, number, split, arm. One frame; concept q belongs to a suite that the tests may withhold.
PROMPTS = {
    0: ("c", "c0", 0, "discovery", "concept"), 1: ("c", "c0", 0, "discovery", "neutral"),
    2: ("c", "c1", 1, "confirmation", "concept"), 3: ("c", "c1", 1, "confirmation", "neutral"),
    4: ("q", "q0", 0, "discovery", "concept"), 5: ("q", "q0", 0, "discovery", "neutral"),
    6: ("q", "q1", 1, "confirmation", "concept"), 7: ("q", "q1", 1, "confirmation", "neutral"),
    8: ("q", "q2", 2, "confirmation", "concept"),
}  # fmt: skip
PIECES = ["<s>", " Dose", "dose", " \n", " of"]
# columns: prompt, position, latent, activation. Latent 9 is asked for by nobody.
ROWS = [
    (0, 1, 7, 4.0), (0, 2, 7, 1.0), (0, 0, 7, 50.0), (1, 4, 7, 2.0), (2, 1, 7, 3.0), (3, 1, 7, 1.0), (3, 3, 7, 5.0),
    (4, 4, 5, 2.0), (6, 4, 5, 6.0), (8, 4, 5, 7.0), (5, 1, 7, 8.0), (1, 1, 9, 99.0),
]  # fmt: skip


def build(folder: Path, *, withheld: tuple[str, ...] = ()) -> Path:
    """Fill a folder with shards and an evidence database over them."""
    (folder / ACTIVATIONS).mkdir()
    prompt, position, latent, activation = (np.array(column) for column in zip(*sorted(ROWS), strict=True))
    mean = np.zeros(2, dtype=np.float32)
    moments = [SequenceMoments("m", n, 5, 4, 0, 4, mean, mean, 1.0, {SAE: 0.0}, {SAE: 1.0}) for n in PROMPTS]
    block = RowBlock(
        SAE, prompt.astype(np.int32), position.astype(np.int32), latent.astype(np.int32), activation.astype(np.float32)
    )
    write_shard(folder / ACTIVATIONS, "k", make_shard([block], moments))
    with create_store(folder) as store:
        for concept in ("c", "q"):
            suite = {"suite": f"suite-{concept}", "title": "S", "domain": "d", "version": "1", "digest": "x"}
            store.insert("suite", [{**suite, "subset": None, "withheld": concept in withheld}])
            row = {"concept": concept, "suite": f"suite-{concept}", "domain": "d", "title": concept, "frames": 1}
            store.insert("concept", [row])
        scenarios = {s: {"scenario": s, "concept": c, "split": p, "number": n} for c, s, n, p, _ in PROMPTS.values()}
        store.insert("scenario", list(scenarios.values()))
        rows = [
            {"prompt": n, "concept": c, "scenario": s, "split": p, "arm": arm, "frame": "f", "text": "t"}
            for n, (c, s, _, p, arm) in PROMPTS.items()
        ]
        # A question about a scenario is no captured prompt: its tokens must not count.
        store.insert("prompt", [*rows, {**rows[2], "prompt": 99, "frame": "outcome"}])
        store.insert(
            "token",
            [
                {"prompt": prompt, "position": n, "piece": piece, "content": n > 0}
                for prompt in (*PROMPTS, 99)
                for n, piece in enumerate(PIECES)
            ],
        )
        store.ingest_shards()
    return folder


def test_tokens_are_folded_and_split(tmp_path: Path) -> None:
    """Case and blanks around a piece do not count, nor does the template; blanks alone stay a piece."""
    with Store(build(tmp_path)) as store:
        use = read_token_use(store, sae=SAE, latents=[7, 5])
    assert use is not None
    assert use.pieces == (" \n", "dose", "of")
    # Latent 7 on discovery: 4 + 1 + 8 on dose, 2 on of. Latent 5: 2 on of.
    np.testing.assert_allclose(use.mass, [[0.0, 13.0, 2.0], [0.0, 0.0, 2.0]])
    # On confirmation, latent 7 fires on dose in prompts 2 and 3 and on blanks in 3; latent 5 on of in 6 and 8.
    assert use.fired.tolist() == [[1, 2, 0], [0, 0, 2]]
    # Five confirmation prompts, with two doses each.
    assert use.tokens.tolist() == [5, 10, 5]


def test_withheld_texts_count_nowhere(tmp_path: Path) -> None:
    """With suite q withheld only the four prompts of c speak; with both withheld nothing does."""
    with Store(build(tmp_path, withheld=("q",))) as store:
        use = read_token_use(store, sae=SAE, latents=[7, 5])
    assert use is not None
    assert use.mass.sum(axis=1).tolist() == [7.0, 0.0]
    assert use.tokens.tolist() == [2, 4, 2]
    other = tmp_path / "all"
    other.mkdir()
    with Store(build(other, withheld=("c", "q"))) as store:
        assert read_token_use(store, sae=SAE, latents=[7, 5]) is None


def test_topic_scores_are_per_concept_and_split(tmp_path: Path) -> None:
    """Maxima of the concept arm minus those of the neutral arm, in the order asked; scenario q2 has no neutral arm."""
    with Store(build(tmp_path)) as store:
        found = read_topic_scores(store, sae=SAE, latents=[7, 5])
    assert [topic.concept for topic in found] == ["c", "q"]
    # c0: the template token is not of the prompt's own, but what capture wrote is what counts: max 50 against 2.
    np.testing.assert_allclose(found[0].discovery, [[48.0, 0.0]])
    np.testing.assert_allclose(found[0].confirmation, [[-2.0, 0.0]])
    np.testing.assert_allclose(found[1].discovery, [[-8.0, 2.0]])
    np.testing.assert_allclose(found[1].confirmation, [[0.0, 6.0]])


@pytest.mark.parametrize(
    ("scenarios", "most", "expected"),
    [
        (1, 3, [("top", 0)]),
        (2, 1, [("top", 0), ("low", 1)]),
        (3, 1, [("top", 0), ("middle", 1), ("low", 2)]),
        (20, 2, [("top", 0), ("top", 1), ("middle", 9), ("low", 17)]),
        (20, 18, [("top", n) for n in range(18)]),
        (20, 0, []),
    ],
)
def test_contexts_over_the_quantiles(
    tmp_path: Path, scenarios: int, most: int, expected: list[tuple[str, int]]
) -> None:
    """Scenario n is the (n + 1)-th strongest: the top ones, the middle one, one at nine tenths; no cell of a mix."""
    (tmp_path / ACTIVATIONS).mkdir()
    mean = np.zeros(2, dtype=np.float32)
    moments = [
        SequenceMoments("m", n, 1, 1, 0, 1, mean, mean, 1.0, {SAE: 0.0}, {SAE: 1.0}) for n in range(scenarios + 1)
    ]
    numbers = np.arange(scenarios + 1, dtype=np.int32)
    loudness = np.append(100 - numbers[:-1], 200).astype(np.float32)
    block = RowBlock(SAE, numbers, np.zeros_like(numbers), np.full_like(numbers, 7), loudness)
    write_shard(tmp_path / ACTIVATIONS, "k", make_shard([block], moments))
    with create_store(tmp_path) as store:
        row = {"concept": "c", "split": "confirmation", "arm": "concept", "frame": "f", "text": "t"}
        store.insert("concept", [{"concept": "c", "suite": "s", "domain": "d", "title": "t", "frames": 1}])
        cell = {**row, "concept": "mix", "arm": "11", "frame": "ab", "prompt": scenarios, "scenario": "loudest"}
        store.insert("prompt", [*({**row, "prompt": n, "scenario": f"s{n}"} for n in range(scenarios)), cell])
        store.insert("token", [{"prompt": n, "position": 0, "piece": "x", "content": True} for n in range(scenarios)])
        store.ingest_shards()
    with Store(tmp_path) as store:
        found = scores.read_contexts(store, sae=SAE, latents=[7], most=most)
    assert [(c.quantile, int(c.prompt)) for c in found[7]] == [(Quantile(q), n) for q, n in expected]
