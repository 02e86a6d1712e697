"""Folds by subject: who trains and who is tested, and where lists differ from what is published."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from vlfau_jax.data.raw.published import Published

Sides = tuple[tuple[str, ...], tuple[str, ...]]  # who trains and who is tested, each sorted
Parts = Mapping[tuple[int, str], Collection[str]]  # (fold, "train" or "test") -> listed subjects


def sides_of(tests: Mapping[str, int], subjects: Sequence[str]) -> dict[int, Sides]:
    """The sides of each fold that tests somebody; who has no fold is on neither.

    Args:
        tests: subject -> the fold that tests it.
        subjects: those who are there.
    """
    return {
        fold: (
            tuple(sorted(s for s in subjects if tests.get(s, fold) != fold)),
            tuple(sorted(s for s in subjects if tests.get(s) == fold)),
        )
        for fold in sorted(set(tests.values()))
    }


def published_sides(published: Published, subjects: Sequence[str]) -> dict[int, Sides]:
    """Fold -> sides by the published parts, {} where none are; fold 1 tests the last part."""
    parts = published.parts
    return sides_of({s: len(parts) - k for k, part in enumerate(parts) for s in part}, subjects)


def usable_folds(listed: Parts) -> tuple[dict[int, Sides], list[str]]:
    """The folds of lists that divide the subjects, and a remark for each of the others."""
    folds: dict[int, Sides] = {}
    remarks: list[str] = []
    for fold in sorted({fold for fold, _ in listed}):
        train, test = (set(listed.get((fold, part), ())) for part in ("train", "test"))
        if train & test:
            remarks.append(f"fold {fold}: {few(sorted(train & test))} trained on and tested")
        elif not (train and test):
            remarks.append(f"fold {fold}: no list of its {'test' if train else 'train'} side")
        else:
            folds[fold] = tuple(sorted(train)), tuple(sorted(test))
    return folds, remarks


def differences(
    published: Published, folds: Mapping[int, Sides], subjects: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Yields each of the lists' `folds` that is not the published one, and a sentence on it."""
    if not published.parts:
        return
    expected = published_sides(published, subjects)
    for fold, own in sorted(folds.items()):
        theirs = expected.get(fold, ((), ()))
        if own == theirs:
            continue
        side = int(own[1] != theirs[1])
        verb = ("train on", "test")[side]
        yield (
            fold,
            f"fold {fold}: the lists {verb} {few(own[side])}, the published folds "
            f"{few(theirs[side])} of these subjects",
        )


def few(names: Sequence[str], most: int = 8) -> str:
    """Names for a message; of many the first ones and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "nobody"
