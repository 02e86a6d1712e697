"""The data set of an experiment: one prepared set or a mixture of several."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from vlfau_jax.data.raw.list_folds import differences
from vlfau_jax.data.read.bucket_set import local_data
from vlfau_jax.data.read.folds import Folds, Split, draw_validation
from vlfau_jax.data.read.labels import Labels
from vlfau_jax.data.read.options import DataOptions
from vlfau_jax.data.read.prepared_set import PreparedSet, open_set
from vlfau_jax.data.sets import DataSet, data_set
from vlfau_jax.errors import UserError
from vlfau_jax.facs import ACTION_UNITS


@dataclass(frozen=True)
class Dataset:
    """One prepared set or a mixture of several, with the labels as an experiment reads them.

    Attributes:
        sets: the sets, in the order of the name.
        aus: the n units of the experiment, in the order of its label vectors.
        subjects: of all sets, sorted.
        labels: of all m examples, set after set.
        coded: bool [sets, n], the units of which each set knows a label.
        kept: bool [m], False for the frames that the options leave out.
        folds: which folds the options choose.
    """

    sets: tuple[PreparedSet, ...]
    aus: tuple[int, ...]
    subjects: tuple[str, ...]
    labels: Labels
    coded: np.ndarray
    kept: np.ndarray
    folds: Folds = field(default_factory=Folds)

    @property
    def name(self) -> str:
        """The data set's name, "bp4d+disfa" for a mixture."""
        return "+".join(one.name for one in self.sets)

    @property
    def folder(self) -> str:
        """Its folders, for messages."""
        return " and ".join(str(one.folder) for one in self.sets)

    @property
    def crop(self) -> Mapping[str, Any]:
        """The crop rule, the same in all sets."""
        return self.sets[0].crop

    @property
    def synthetic(self) -> bool:
        """Whether any of the faces were rendered."""
        return any(one.synthetic for one in self.sets)

    @cached_property
    def nouns(self) -> tuple[str, ...]:
        """The noun for each subject in a sentence: man, woman or person."""
        return tuple(self.set_of(subject).noun(subject) for subject in self.subjects)

    @cached_property
    def parts(self) -> np.ndarray:
        """The index of the set that each subject is from, int32 [subjects]."""
        return np.array(
            [[s in one.subject_facts for one in self.sets].index(True) for s in self.subjects],
            np.int32,
        )

    @cached_property
    def identity(self) -> dict[str, dict[str, Any]]:
        """A few JSON values per set that differ for other data at the same path."""
        return {one.name: one.identity for one in self.sets}

    @property
    def digests(self) -> dict[str, str]:
        """A digest of each set that differs for any other labels, pictures or people."""
        return {one.name: one.digest for one in self.sets}

    def set_of(self, subject: str) -> PreparedSet:
        """The set that a subject is from."""
        return next(one for one in self.sets if subject in one.subject_facts)

    def rows(self, subjects: Sequence[str]) -> np.ndarray:
        """int64 positions of the subjects' examples, ascending, without those left out."""
        wanted = np.isin(self.subjects, subjects)
        return np.flatnonzero(wanted[self.labels.subject] & self.kept)

    def training_rows(self, subjects: Sequence[str]) -> np.ndarray:
        """Those of `rows` with a known label, from which something can be learned.

        A mixture has others if `data.aus` names units that one of its sets does not code.
        Evaluation includes them: it writes the predictions of all, and scores the known labels.
        """
        rows = self.rows(subjects)
        return rows[self.labels.known[rows].any(1)]

    def source(self, rows: np.ndarray) -> Sequence[dict[str, bytes]]:
        """Random access to the pictures at `rows`, see `PreparedSet.source`."""
        return _Source(tuple(one.source() for one in self.sets), np.asarray(rows, np.int64))

    def label_counts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts the active and the known labels of `rows` per action unit, each int64 [n]."""
        return self.labels.au[rows].sum(0), self.labels.known[rows].sum(0)

    def split(self, fold: int, validation_subjects: int = 0, seed: int = 0) -> Split:
        """Splits into training, validation and test subjects; each set by its own folds.

        Raises:
            UserError: no such fold, one that leaves a side empty, or fewer training subjects than
                are asked for validation.
        """
        sides = [
            self.folds.split(one.data_set, one.subjects, fold, one.stated_folds)
            for one in self.sets
        ]
        validation = draw_validation([train for train, _ in sides], validation_subjects, seed)
        train = {subject for train, _ in sides for subject in train} - set(validation)
        test = [subject for _, test in sides for subject in test]
        return Split(tuple(sorted(train)), validation, tuple(sorted(test)))

    def fold_notes(self, fold: int) -> list[str]:
        """Where the fold is another in a set's own lists than in the published ones, a line."""
        return [
            f"{one.name}: {text}; data.folds={self.folds.rule} is used"
            for one in self.sets
            for number, text in differences(one.published, one.list_folds, one.subjects)
            if number == fold
        ]


class _Source(Sequence[dict[str, bytes]]):
    """Pictures of concatenated sources, at chosen positions."""

    def __init__(self, sources: tuple[Sequence[dict[str, bytes]], ...], rows: np.ndarray) -> None:
        self._sources = sources
        self._rows = rows
        self._starts = [0, *accumulate(len(source) for source in sources)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        position = self._rows.item(index)
        part = bisect.bisect_right(self._starts, position) - 1
        return self._sources[part][position - self._starts[part]]


def open_dataset(options: DataOptions) -> Dataset:
    """Opens what `options` name, one prepared set or a mixture of several.

    Raises:
        UserError: an unknown name, a set that is missing, damaged or of an
            earlier version, several variants of which `data.variant` names none, a unit that no
            set codes; sets of a mixture that are cropped differently or share a subject's name.
    """
    names = [one.name for one in _records(options)]
    variants = options.variant.split("+")
    if len(variants) == 1:
        variants *= len(names)
    if len(variants) != len(names):
        raise UserError(
            f"data.variant={options.variant!r} names {len(variants)} variants for {len(names)} "
            "sets; give one for all, or one for each, separated by +"
        )
    sets = tuple(
        open_set(name, local_data(options.data_dir, name), variant)
        for name, variant in zip(names, variants, strict=True)
    )
    return combine(sets, options)


def combine(sets: tuple[PreparedSet, ...], options: DataOptions) -> Dataset:
    """Reads the sets as `options` state, set after set. Raises UserError, see `open_dataset`."""
    _check_mixture(sets)
    aus = _units(sets, options.aus)
    subjects = tuple(sorted(subject for one in sets for subject in one.subjects))
    parts, kept = [], []
    for part, one in enumerate(sets):
        au, known = one.decide(options.threshold)
        index = np.array([subjects.index(subject) for subject in one.subjects], np.int32)
        size = len(au)
        parts.append(
            Labels(
                subject=index[one.codes["subject"]],
                task=one.codes["task"],
                frame=one.codes["frame"],
                au=_columns(au, one.aus, aus),
                known=_columns(known, one.aus, aus),
                level=_columns(one.codes["intensity"], one.aus, aus, missing=-1),
                part=np.full(size, part, np.int32),
            )
        )
        kept.append(~one.excluded() if options.exclude_stretches else np.ones(size, bool))
    labels = {
        field: np.concatenate([getattr(one, field) for one in parts])
        for field in Labels.__dataclass_fields__
    }
    coded = np.stack([one.known.any(0) for one in parts])
    unknown = [au for au, known in zip(aus, coded.any(0), strict=True) if not known]
    if unknown and options.aus:
        raise UserError(
            f"data.aus={options.aus}: no label of AU{unknown[0]} is known in "
            f"{' and '.join(str(one.folder) for one in sets)}; leave it out"
        )
    folds = Folds.read(options.folds, subjects)
    return Dataset(sets, aus, subjects, Labels(**labels), coded, np.concatenate(kept), folds)


def published_units(options: DataOptions) -> tuple[int, ...]:
    """The units that an experiment learns from what is published of its sets, none of them opened.

    Raises:
        UserError: an unknown name or unit, or units that only a prepared set knows.
    """
    sets = []
    for one in _records(options):
        if one.aus is None:  # then prepared sets have those of their table, ascending
            if not options.aus:
                raise UserError(
                    f"data.name={options.name!r}: only a prepared set knows the units of "
                    f'{one.name!r}; give data.aus, such as --config.data.aus="(1, 2, 4)"'
                )
            one = replace(one, aus=tuple(sorted(ACTION_UNITS)), benchmark=options.aus)
        sets.append(one)
    return _units(sets, options.aus)


def _records(options: DataOptions) -> list[DataSet]:
    """The data sets that `options` name, each once."""
    names = options.name.split("+")
    records = [
        data_set(name, "data.name", ", or several of them such as bp4d+disfa") for name in names
    ]
    if len(set(names)) != len(names):
        raise UserError(f"data.name={options.name!r} names a set twice; expected each once")
    return records


def _columns(
    values: np.ndarray, aus: Sequence[int], wanted: Sequence[int], missing: int = 0
) -> np.ndarray:
    """The `wanted` units' columns of [m, len(aus)]; `missing` where a unit is not among `aus`."""
    found = np.full((len(values), len(wanted)), missing, values.dtype)
    for column, au in enumerate(wanted):
        if au in aus:
            found[:, column] = values[:, aus.index(au)]
    return found


def _units(sets: Sequence[PreparedSet | DataSet], wanted: Sequence[int]) -> tuple[int, ...]:
    """The requested units, or else all that the benchmarks score; one set's in its own order."""
    if len(sets) == 1:
        coded = sets[0].aus
    else:
        coded = tuple(sorted({au for one in sets for au in one.aus}))
    described = [au for au in coded if au in ACTION_UNITS]
    missing = [au for au in wanted if au not in described]
    if missing or len(set(wanted)) != len(wanted):
        name = "+".join(one.name for one in sets)
        fault = f"has AU{missing[0]}" if missing else "has a unit twice"
        raise UserError(
            f"data.aus={tuple(wanted)} {fault}; of the units that {name} codes, these have "
            f"sentences: {', '.join(map(str, described))}"
        )
    chosen = set(wanted) or {au for one in sets for au in one.benchmark}
    return tuple(au for au in coded if au in chosen)


def _check_mixture(sets: Sequence[PreparedSet]) -> None:
    first = sets[0]
    for i, one in enumerate(sets[1:], 1):
        if one.crop["digest"] != first.crop["digest"]:
            raise UserError(
                f"{one.folder}: faces cropped by {one.crop['name']} ({one.crop['digest']}), but "
                f"those of {first.folder} by {first.crop['name']} ({first.crop['digest']}); "
                "prepare both with one rule"
            )
        shared = {s for other in sets[:i] for s in other.subjects} & set(one.subjects)
        if shared:
            raise UserError(
                f"{one.folder}: subject {min(shared)} is in another set of the mixture, too; "
                "rename one"
            )
