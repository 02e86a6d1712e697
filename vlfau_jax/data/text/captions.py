"""Translates labels to token rows, fast enough for a data pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlfau_jax.data.text.descriptions import GRADES, NOUNS, STATES, Descriptions
from vlfau_jax.data.text.vocabulary import Vocabulary

_UNKNOWN, _FIRST_GRADE = 2, 3  # of a unit's states: 0 off, 1 on, unknown, then the intensities
_MOST_KEPT = 65_536  # global sentences: 12 MB of 45 tokens


class CaptionTables:
    """Token rows for label vectors over `aus` (n units): local rows in a table, global ones cached.

    Attributes:
        vocabulary: the words.
        descriptions: the texts.
        max_local_tokens: t, tokens of the longest local row, <start> and <end> included.
        max_global_tokens: tg, the same for the global row.
    """

    def __init__(
        self, aus: Sequence[int], vocabulary: Vocabulary, descriptions: Descriptions = STATES
    ) -> None:
        self.aus = tuple(aus)
        self.descriptions = descriptions
        self.vocabulary = vocabulary
        n = len(self.aus)
        states = [(False, 0), (True, 0), None, *((True, grade + 1) for grade in range(GRADES))]
        rows: list[np.ndarray] = [np.zeros(0, np.int32)]  # the first is of what is unknown
        # Of each unit's states: the place of its first row, and the number of its rows.
        self._first, self._count = np.zeros((2, n, len(states)), np.intp)
        self._count[:, _UNKNOWN] = 1
        for i, au in enumerate(self.aus):
            for k, state in enumerate(states):
                if state is not None:
                    texts = descriptions.sentences(au, *state)
                    self._first[i, k], self._count[i, k] = len(rows), len(texts)
                    rows += map(vocabulary.encode, texts)
        self.max_local_tokens = max(map(len, rows))
        self._local = np.zeros((len(rows), self.max_local_tokens), np.int32)
        for row, tokens in zip(self._local, rows, strict=True):
            row[: len(tokens)] = tokens

        self._phrases = np.array([len(descriptions.of(au).phrases) for au in self.aus])
        longest = [
            int(
                np.argmax(
                    [len(vocabulary.encode(phrase)) for phrase in descriptions.of(au).phrases]
                )
            )
            for au in self.aus
        ]
        self.max_global_tokens = max(
            len(vocabulary.encode(descriptions.whole(self.aus, [on] * n, noun, longest)))
            for noun in NOUNS
            for on in (True, False)
        )
        # A plain dict, because the tables are pickled for worker processes.
        self._global: dict[tuple[bytes, bytes, str], np.ndarray] = {}

    def local_tokens(
        self,
        au: np.ndarray,
        known: np.ndarray,
        level: np.ndarray | None = None,
        draws: np.ndarray | None = None,
    ) -> np.ndarray:
        """Local rows int32 [..., n, t] for the states of n units; all pad where not `known`.

        Args:
            au: [..., n] in {0, 1}.
            known: bool [..., n].
            level: int [..., n], intensities 0 to 5, or -1 where not coded; None for no unit. They
                are spoken of where a unit is active, its level is 1 or more, and there are texts.
            draws: float [..., n] in 0-1, which choose among several texts; None for the first ones.
        """
        state = np.where(known, au, _UNKNOWN).astype(np.intp)
        if level is not None:
            graded = (state == 1) & (level > 0)
            state = np.where(graded, level.astype(np.intp) + (_FIRST_GRADE - 1), state)
        units = np.arange(len(self.aus))
        place = self._first[units, state]
        if draws is not None:
            place = place + (draws * self._count[units, state]).astype(np.intp)
        return self._local[place]

    def global_tokens(
        self,
        au: np.ndarray,
        known: np.ndarray,
        nouns: Sequence[str],
        coded: np.ndarray,
        draws: np.ndarray | None = None,
    ) -> np.ndarray:
        """Global rows int32 [b, tg] about the units that each face's data set codes.

        All pad where one of them is unknown, because the sentence would state it as absent, and
        where there is none. au in {0, 1}, known bool, coded bool and draws (see `local_tokens`) are
        all [b, n], nouns [b].
        """
        rows = np.zeros((len(au), self.max_global_tokens), np.int32)
        # Neither units that are not coded nor inactive ones are mentioned: one sentence, one key.
        active = au.astype(bool) & coded
        choices = np.zeros(active.shape, np.uint8)
        if draws is not None:
            choices[:] = draws * self._phrases * active
        packed = np.packbits(active, 1)
        whole = coded.any(1) & (known | ~coded).all(1)
        for k in np.flatnonzero(whole).tolist():
            key = (packed[k].tobytes(), choices[k].tobytes(), nouns[k])
            if key not in self._global:
                if len(self._global) >= _MOST_KEPT:
                    self._global.clear()
                text = self.descriptions.whole(self.aus, active[k], nouns[k], choices[k])
                self._global[key] = self.vocabulary.encode(text, self.max_global_tokens)
            rows[k] = self._global[key]
        return rows
