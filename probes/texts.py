"""Words, word n-grams and the overlap of texts: what every check of a suite's language is made of."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyphen

_WORD = re.compile(r"[^\W_]+(?:['’.,][^\W_]+)*|[%$€£]")  # noqa: RUF001 - the typographic apostrophe is meant
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
_VOWELS = re.compile(r"[aeiouy]+")


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in order, lower case; numbers and currency signs count as words."""
    return tuple(_WORD.findall(text.lower()))


def bag_overlap(first: str, second: str) -> float:
    """Return the Jaccard overlap of two bags of words, from 0 to 1; each repetition of a word counts."""
    one, other = Counter(words(first)), Counter(words(second))
    return (one & other).total() / max(1, (one | other).total())


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    """Return the word trigrams of a text; a shorter text is one n-gram."""
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False)) or frozenset({found})


@dataclass(frozen=True, slots=True)
class Alike:
    """Two texts that share word trigrams: `share` is the number shared over the smaller text's number."""

    first: str
    second: str
    share: float


def find_alike(texts: Mapping[str, str], *, at_least: float) -> list[Alike]:
    """Return every pair of texts that shares at least that part of the trigrams of the smaller one.

    Args:
        texts: name -> text.
        at_least: the share from which two texts are alike.

    Returns:
        Pairs in the order of the names, found by an inverted index: only texts that share a trigram are compared.
    """
    grams = {name: trigrams(text) for name, text in texts.items()}
    holders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    found = []
    for name, own in grams.items():
        shared = Counter(other for gram in own for other in holders[gram])
        for other, count in shared.items():
            share = count / min(len(own), len(grams[other]))
            if share >= at_least:
                found.append(Alike(other, name, share))
        for gram in own:
            holders[gram].append(name)
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def word_skew(pairs: Iterable[tuple[str, str]]) -> Counter[str]:
    """Return word -> in how many pairs only the first text has it, minus those in which only the second has it."""
    skew: Counter[str] = Counter()
    for first, second in pairs:
        one, other = set(words(first)), set(words(second))
        skew.update(one - other)
        skew.subtract(other - one)
    return skew


def reading_grade(texts: Sequence[str]) -> float:
    """Return the Flesch-Kincaid grade of English texts taken together, in school years.

    0.39 words/sentences + 11.8 syllables/words - 15.59 (Kincaid et al., 1975). Syllables are hyphenation points plus
    one, at least the groups of vowels in words that the dictionary does not hyphenate.
    """
    sentences = sum(max(1, len(_SENTENCE.findall(text))) for text in texts)
    spoken = [word for text in texts for word in words(text) if word[0].isalpha()]
    if not spoken:
        return 0.0
    return 0.39 * len(spoken) / sentences + 11.8 * sum(map(_syllables, spoken)) / len(spoken) - 15.59


@cache
def _syllables(word: str) -> int:
    groups = len(_VOWELS.findall(word.removesuffix("e") if len(word) > 3 else word))
    return max(1, groups, len(_hyphenation().positions(word)) + 1)


@cache
def _hyphenation() -> Any:  # noqa: ANN401 - pyphen has no types
    return pyphen.Pyphen(lang="en_US")
