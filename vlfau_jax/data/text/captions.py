"""Translates labels to token rows, fast enough for a data pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlfau_jax.data.text.descriptions import NOUNS, global_description, local_description
from vlfau_jax.data.text.vocabulary import Vocabulary


class CaptionTables:
    """Token rows for label vectors over `aus` (n units): local rows in a table, global ones cached.

    Attributes:
        max_local_tokens: t, tokens of the longest local row, <start> and <end> included.
        max_global_tokens: tg, the same for the global row.
    """

    def __init__(self, aus: Sequence[int], vocabulary: Vocabulary) -> None:
        self.aus = tuple(aus)
        n = len(self.aus)
        rows = [[vocabulary.encode(local_description(au, on)) for on in (0, 1)] for au in self.aus]
        self.max_local_tokens = max(len(row) for pair in rows for row in pair)
        all_on = [global_description(self.aus, [True] * n, noun) for noun in NOUNS]
        all_off = [global_description(self.aus, [False] * n, noun) for noun in NOUNS]
        self.max_global_tokens = max(len(vocabulary.encode(text)) for text in all_on + all_off)

        # State 2 is "unknown": a row of pads, which no loss reads.
        self._local = np.zeros((n, 3, self.max_local_tokens), np.int32)
        for i, pair in enumerate(rows):
            for state, row in enumerate(pair):
                self._local[i, state, : len(row)] = row

        self._vocabulary = vocabulary
        # At most 12,288 sentences for twelve units and three nouns. A plain dict, because the
        # tables are pickled for worker processes.
        self._global: dict[tuple[bytes, str], np.ndarray] = {}

    def local_tokens(self, au: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Local rows int32 [..., n, t] for `au` [..., n] in {0, 1}; all pad where not `known`."""
        state = np.where(known, au, 2).astype(np.intp)
        return self._local[np.arange(len(self.aus)), state]

    def global_tokens(
        self, au: np.ndarray, known: np.ndarray, nouns: Sequence[str], coded: np.ndarray
    ) -> np.ndarray:
        """Global rows int32 [b, tg] about the units that each face's data set codes.

        All pad where one of them is unknown, because the sentence would state it as absent, and
        where there is none. au in {0, 1}, known bool and coded bool are all [b, n], nouns [b].
        """
        rows = np.zeros((len(au), self.max_global_tokens), np.int32)
        # Neither units that are not coded nor inactive ones are mentioned: one sentence, one key.
        active = au.astype(bool) & coded
        packed = np.packbits(active, 1)
        whole = coded.any(1) & (known | ~coded).all(1)
        for k in np.flatnonzero(whole).tolist():
            key = (packed[k].tobytes(), nouns[k])
            if key not in self._global:
                text = global_description(self.aus, active[k], nouns[k])
                self._global[key] = self._vocabulary.encode(text, self.max_global_tokens)
            rows[k] = self._global[key]
        return rows
