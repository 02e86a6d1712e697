"""Subject-exclusive folds: the published ones, those that the data state, or a table's.

The parts of BP4D and DISFA are those that ME-GraphAU and JAA-Net publish. Fold 1 tests part 3, fold
2 part 2, fold 3 part 1 (ME-GraphAU's numbering; others count the other way, so test subjects are
printed with every score). Fold 0 trains on all subjects and tests none.

`data.folds` chooses:

    published   the published folds; where none are published, the fold column of labels.csv, or
                else three folds of the subjects in sorted order
    lists       those of the lists (ME-GraphAU's layout) or of the fold column that the set was
                prepared from
    FILE        a CSV table subject,fold: every subject once, folds 1 to k
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlfau_jax.data.raw.label_rows import is_number, read_rows
from vlfau_jax.data.raw.list_folds import Sides, few, published_sides, sides_of
from vlfau_jax.data.sets import DataSet
from vlfau_jax.errors import FileError, UserError

FOLDS = 3
PUBLISHED, LISTS = "published", "lists"
MOST_FOLDS = 1000


class Split(NamedTuple):
    """Three disjoint groups of subjects, each sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class StatedFolds:
    """The folds that one prepared set states.

    Attributes:
        by_subject: subject -> the fold that tests it, 0 where none is stated (a fold column).
        by_list: fold -> who trains and who is tested (ME-GraphAU's lists); empty without lists.
    """

    by_subject: Mapping[str, int]
    by_list: Mapping[int, Sides]

    def of(self, subjects: Sequence[str]) -> dict[int, Sides]:
        """Fold -> who trains and who is tested; empty if nothing is stated."""
        if self.by_list:
            return dict(self.by_list)
        if not all(self.by_subject.get(s) for s in subjects):
            return {}
        return sides_of({s: self.by_subject[s] for s in subjects}, subjects)


NOTHING_STATED = StatedFolds({}, {})


def read_folds(path: str | Path, subjects: Collection[str]) -> dict[str, int]:
    """Reads a table `subject,fold` of all `subjects`: subject -> the fold that tests it.

    Raises:
        FileError: no regular file, or no text.
        UserError: another header, a subject that is missing, unknown or twice, a fold that is no
            number from 1 on or that nobody is in.
    """
    rows = read_rows(path, ",;\t")
    _, header = next(rows, (1, []))
    if sorted(header) != ["fold", "subject"]:
        raise UserError(f"{path}:1: expected the header subject,fold")
    who, which = header.index("subject"), header.index("fold")
    tests: dict[str, int] = {}
    for line, row in rows:
        if len(row) != 2:
            raise UserError(f"{path}:{line}: {len(row)} cells; expected subject,fold")
        subject, fold = row[who], row[which]
        if subject in tests:
            raise UserError(f"{path}:{line}: {subject[:40]!r} comes twice; expected each once")
        if subject not in subjects:
            raise UserError(
                f"{path}:{line}: subject {subject[:40]!r} is not in the prepared set; expected "
                f"{few(sorted(subjects))}"
            )
        if not is_number(fold) or not 1 <= int(fold) <= MOST_FOLDS:
            raise UserError(f"{path}:{line}: fold {fold[:40]!r}; expected 1, 2, 3, ...")
        tests[subject] = int(fold)
    missing = sorted(set(subjects) - tests.keys())
    if missing:
        raise UserError(f"{path}: no row of {few(missing)}; expected every subject once")
    count = max(tests.values())
    empty = sorted(set(range(1, count + 1)) - set(tests.values()))
    if empty or count < 2:
        raise UserError(
            f"{path}: folds are 1 to {count}, and fold {(empty or [2])[0]} tests nobody; expected "
            "at least two folds, numbered without a gap"
        )
    return tests


@dataclass(frozen=True)
class Folds:
    """Which folds an experiment uses.

    Attributes:
        rule: published, lists, or the name of the table.
        tests: the table: subject -> fold; empty without one.
    """

    rule: str = PUBLISHED
    tests: Mapping[str, int] | None = None

    @classmethod
    def read(cls, rule: str, subjects: Collection[str]) -> Folds:
        """The folds that `data.folds` names, for the subjects of all sets. Raises UserError."""
        if rule in (PUBLISHED, LISTS):
            return cls(rule)
        try:
            return cls(Path(rule).name, read_folds(rule, subjects))
        except FileError as error:
            raise UserError(
                f"data.folds={error}; expected published, lists or a table subject,fold"
            ) from error
        except UserError as error:
            raise UserError(f"data.folds={error}") from None

    def sides(
        self, data_set: DataSet, subjects: Sequence[str], stated: StatedFolds
    ) -> dict[int, Sides]:
        """Fold -> who trains and who is tested of one set.

        A subject that is in no published part (a synthetic extra) is on neither side.

        Raises:
            UserError: `lists`, and the set states no folds.
        """
        if self.tests is not None:
            # Of a mixture's folds one set may have no subject in some.
            sides = sides_of({s: self.tests[s] for s in subjects}, subjects)
            empty = (tuple(sorted(subjects)), ())
            return {k: sides.get(k, empty) for k in range(1, max(self.tests.values()) + 1)}
        found = stated.of(subjects)
        if self.rule == LISTS:
            if not found:
                raise UserError(
                    f"data.folds=lists: the prepared {data_set.name} states no folds of its own; "
                    "prepare it again from ME-GraphAU's lists or a labels.csv with a column fold, "
                    "or give published or a table subject,fold"
                )
            return found
        if data_set.published.parts:
            found = published_sides(data_set.published, subjects)
        elif not found:
            tests = {s: k % FOLDS + 1 for k, s in enumerate(sorted(subjects))}
            found = sides_of(tests, subjects)
        nobody = (tuple(sorted(subjects)), ())
        return dict.fromkeys(range(1, FOLDS + 1), nobody) | found

    def describe(self, data_set: DataSet, subjects: Sequence[str], stated: StatedFolds) -> str:
        """The folds in a few words, with a digest of who is in them unless they are published."""
        if self.rule == PUBLISHED and self.tests is None and data_set.published.parts:
            return PUBLISHED
        sides = self.sides(data_set, subjects, stated)
        text = json.dumps({str(fold): sides[fold] for fold in sorted(sides)}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        rule = self.rule
        if rule == PUBLISHED:
            rule = "stated by the data" if stated.of(subjects) else "subjects in sorted order"
        return f"{rule} (sha256 {digest})"

    def split(
        self,
        data_set: DataSet,
        subjects: Sequence[str],
        fold: int,
        stated: StatedFolds = NOTHING_STATED,
    ) -> Sides:
        """Splits the present `subjects` into sorted training and test subjects.

        Raises:
            UserError: unknown fold, or a fold that leaves one of the two sides empty.
        """
        sides = self.sides(data_set, subjects, stated)
        if fold == 0:
            return tuple(sorted(subjects)), ()
        if fold not in sides:
            raise UserError(
                f"data.fold={fold} does not exist; expected 0 (all train) to {max(sides)}"
                if set(sides) == set(range(1, max(sides) + 1))
                else f"data.fold={fold} does not exist; expected 0 (all train) or one of "
                f"{few([str(k) for k in sorted(sides)])}"
            )
        for side, found in zip(("training", "test"), sides[fold], strict=True):
            if not found and self.tests is None:
                tested = self._tested(data_set, subjects, fold, sides)
                raise UserError(
                    f"data.fold={fold} of {data_set.name} leaves no {side} subject among "
                    f"{', '.join(sorted(subjects))}; it tests {', '.join(tested) or 'no subject'}; "
                    "give more subjects, or data.fold=0 to train on all and test none"
                )
        return sides[fold]

    def _tested(
        self, data_set: DataSet, subjects: Sequence[str], fold: int, sides: Mapping[int, Sides]
    ) -> list[str]:
        parts = data_set.published.parts
        if self.rule == PUBLISHED and parts and fold <= len(parts):
            return sorted(parts[len(parts) - fold])
        return list(sides[fold][1])


def split_subjects(
    data_set: DataSet, subjects: Sequence[str], fold: int, given: Mapping[str, int] | None = None
) -> Sides:
    """Splits by `data.folds=published`; `given` is the fold column, see `Folds.split`."""
    return Folds().split(data_set, subjects, fold, StatedFolds(given or {}, {}))


def draw_validation(groups: Sequence[Sequence[str]], count: int, seed: int) -> tuple[str, ...]:
    """Draws `count` of the training subjects, from the `groups` of the data sets in turn; sorted.

    The draw depends on the subjects, the count and the seed alone.

    Raises:
        UserError: a data set would be left without a training subject.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    turns = in_turn(groups, rng)[:count]
    if count and any(set(group) <= set(turns) for group in groups):
        sizes = [len(group) for group in groups]
        most = len(groups) * (min(sizes) - 1) + sizes.index(min(sizes))
        raise UserError(
            f"data.validation_subjects={count} leaves nobody to train on among "
            f"{', '.join(sorted(chain(*groups)))}; give at most {most}"
        )
    return tuple(sorted(turns))


def in_turn(groups: Sequence[Sequence[str]], rng: np.random.Generator) -> list[str]:
    """All subjects in a random order, one from each of the `groups` in turn while they last."""
    drawn = [[sorted(group)[i] for i in rng.permutation(len(group))] for group in groups]
    return [subject for subject in chain(*zip_longest(*drawn)) if subject is not None]
