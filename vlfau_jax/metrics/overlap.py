"""Overlap of generated sentences with the true ones: BLEU, ROUGE-L and CIDEr-D, without Java.

They equal the public COCO caption scorer's (pycocoevalcap, whose last release is of 2020 and brings
100 MB of Java), whose numbers captioning papers print; tests compare with stored ones. Its METEOR
is a Java program; the pure-Python one (NLTK's) follows the formula of 2005 and downloads WordNet,
so that its numbers are others: there is none here.

Beware: a few hundred sentences describe all faces here, and "the brows are raised" and "the brows
are not raised" are near twins to all of these. Whether a sentence is true is for statements.py.

A corpus is a multiset of (sentence, its true sentences): corpora of shards add, and what is written
a thousand times is compared once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vlfau_jax.data.text.splitting import words

TOKENIZER = "lower-case words without punctuation (vlfau_jax.data.text.splitting)"
LONGEST = 4  # words of an n-gram

# (generated sentence, true ones) -> how often.
Corpus = Mapping[tuple[str, tuple[str, ...]], int]

_Grams = Counter[tuple[str, ...]]


def distinct(corpus: Corpus) -> int:
    """How many different sentences were generated."""
    return len({sentence for sentence, _ in corpus})


def bleu(corpus: Corpus) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4 of a corpus, 0 to 1 (Papineni et al. 2002); NaN without sentences.

    The brevity penalty takes the true sentence whose length is nearest. As in the COCO scorer, a
    count of 0 is 1e-15 and a denominator 1e-9 more than it is: without a 4-gram in common, BLEU-4
    is tiny instead of 0.
    """
    if not corpus:
        return (math.nan,) * LONGEST
    generated = true = 0
    common, total = np.zeros(LONGEST), np.zeros(LONGEST)
    for (sentence, references), times in corpus.items():
        said = words(sentence)
        lengths = [len(words(one)) for one in references]
        generated += times * len(said)
        true += times * min(lengths, key=lambda length: (abs(length - len(said)), length))
        most: _Grams = Counter()
        for one in references:
            most |= _grams(words(one))
        for gram, count in (_grams(said) & most).items():
            common[len(gram) - 1] += times * count
        total += times * np.maximum(len(said) - np.arange(LONGEST), 0)
    small, tiny = 1e-9, 1e-15
    ratio = (generated + tiny) / (true + small)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    products = np.cumprod((common + tiny) / (total + small))
    return tuple(float(p ** (1 / (k + 1)) * penalty) for k, p in enumerate(products))


def rouge_l(corpus: Corpus, beta: float = 1.2) -> float:
    """ROUGE-L, 0 to 1 (Lin 2004), the mean over sentences; NaN without sentences.

    F of the longest common subsequence's share of the generated sentence and of the true one,
    recall weighing `beta` squared; of several true ones, the best share each.
    """

    def one(sentence: str, references: Sequence[str]) -> float:
        said, true = words(sentence), [words(text) for text in references]
        common = [_longest_common_subsequence(said, other) for other in true]
        precision = max(common) / max(len(said), 1)
        recall = max(c / max(len(other), 1) for c, other in zip(common, true, strict=True))
        if not precision or not recall:
            return 0.0
        return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)

    return _mean({key: one(*key) for key in corpus}, corpus)


def cider_d(corpus: Corpus, sigma: float = 6.0) -> float:
    """CIDEr-D, 0 to 10 (Vedantam et al. 2015), the mean over sentences; NaN without sentences.

    Cosine similarity of n-grams' counts, weighted by how few of the corpus's faces have the n-gram
    in a true sentence, and clipped; the mean over n of 1 to 4. A Gaussian of the difference in
    length punishes repetition; as in the COCO scorer, lengths count pairs of words. It depends on
    the corpus: where all true sentences are alike, each n-gram weighs nothing and the score is 0.
    """
    if not corpus:
        return math.nan
    texts = {text for sentence, references in corpus for text in (sentence, *references)}
    grams = {text: _grams(words(text)) for text in texts}
    frequency: _Grams = Counter()
    for (_, references), times in corpus.items():
        for gram in set().union(*(grams[text] for text in references)):
            frequency[gram] += times
    faces = math.log(sum(corpus.values()))

    def vectors(text: str) -> list[dict[tuple[str, ...], float]]:
        found: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
        for gram, count in grams[text].items():
            found[len(gram) - 1][gram] = count * (faces - math.log(max(1, frequency[gram])))
        return found

    weighted = {text: vectors(text) for text in texts}
    norms = {
        text: [math.sqrt(sum(w * w for w in part.values())) for part in parts]
        for text, parts in weighted.items()
    }
    pairs = {text: sum(n for gram, n in grams[text].items() if len(gram) == 2) for text in texts}

    def similarity(sentence: str, reference: str) -> float:
        total = 0.0
        for k in range(LONGEST):
            own, other = weighted[sentence][k], weighted[reference][k]
            value = sum(min(w, other[g]) * other[g] for g, w in own.items() if g in other)
            scale = norms[sentence][k] * norms[reference][k]
            total += value / scale if scale else 0.0
        difference = pairs[sentence] - pairs[reference]
        return total / LONGEST * math.exp(-(difference**2) / (2 * sigma**2))

    return _mean(
        {
            (sentence, references): 10
            * sum(similarity(sentence, one) for one in references)
            / len(references)
            for sentence, references in corpus
        },
        corpus,
    )


def _grams(text: Sequence[str]) -> _Grams:
    """All n-grams of 1 to `LONGEST` words of a split text, with how often each occurs."""
    return Counter(
        tuple(text[start : start + n])
        for n in range(1, LONGEST + 1)
        for start in range(len(text) - n + 1)
    )


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    lengths = [0] * (len(other) + 1)
    for word in one:
        corner = 0  # what stood one to the left, a row above
        for k, match in enumerate(other, 1):
            above = lengths[k]
            lengths[k] = corner + 1 if word == match else max(above, lengths[k - 1])
            corner = above
    return lengths[-1]


def _mean(values: Mapping[tuple[str, tuple[str, ...]], float], corpus: Corpus) -> float:
    total = sum(corpus.values())
    if not total:
        return math.nan
    return sum(value * corpus[key] for key, value in values.items()) / total
