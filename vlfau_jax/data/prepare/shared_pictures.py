"""Finds pictures and videos that stand under two people: one of them is labelled as somebody else.

Who is in training and test at once makes a model look better than it is.
"""

from __future__ import annotations

import filecmp
from collections.abc import Sequence

import numpy as np

from vlfau_jax.data.prepare.shards import ShardFacts, ShardJob
from vlfau_jax.data.raw.frames import place_of, source_of
from vlfau_jax.data.raw.picture_digest import DIGITS, NO_DIGEST
from vlfau_jax.data.raw.places import format_count

MOST_COMPARED = 1000  # files, byte by byte; of others the digests decide


def shared_pictures(made: Sequence[tuple[ShardJob, ShardFacts]]) -> tuple[int, list[str]]:
    """The files that stand under several people.

    Returns:
        Their number (each counted once), and a line for each group of people.
    """
    starts = np.cumsum([0, *(len(facts.pictures) // DIGITS for _, facts in made)])
    digests = np.frombuffer(bytes.fromhex("".join(facts.pictures for _, facts in made)), ">u8")
    _, index, counts = np.unique(digests, return_inverse=True, return_counts=True)
    same: dict[int, list[tuple[int, int]]] = {}
    for row in np.flatnonzero((counts[index] > 1) & (digests != int(NO_DIGEST, 16))):
        k = int(np.searchsorted(starts, row, side="right")) - 1
        same.setdefault(int(index[row]), []).append((k, int(row - starts[k])))
    compared, groups = 0, {}
    for places in same.values():
        first = {}  # subject -> a place of theirs
        for k, i in places:
            first.setdefault(made[k][0].sequence.subject, (k, i))
        if len(first) < 2:
            continue
        paths = [place_of(made[k][0].sequence.pictures, i).path for k, i in first.values()]
        compared += 1
        if compared <= MOST_COMPARED and not all(_equal(paths[0], path) for path in paths[1:]):
            continue
        groups.setdefault(tuple(sorted(first)), []).append([first[s] for s in sorted(first)])
    lines = []
    for people, found in sorted(groups.items()):
        sources = (source_of(made[k][0].root, made[k][0].sequence.pictures, i) for k, i in found[0])
        lines.append(
            f"{', '.join(people)}: {format_count(len(found), 'file')}, the first is "
            f"{' and '.join(sources)}"
        )
    return sum(map(len, groups.values())), lines


def _equal(one: str, other: str) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # it has gone meanwhile
        return False
