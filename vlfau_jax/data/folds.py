"""The field's three subject-exclusive folds, as ME-GraphAU and JAA-Net publish them.

Fold 1 tests part 3, fold 2 part 2, fold 3 part 1 (ME-GraphAU's numbering; others count the other
way, so test subjects are printed with every score). Fold 0 trains on everybody and tests nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlfau_jax.errors import UserError

_BP4D = (
    "F001 F002 F008 F009 F010 F016 F018 F023 M001 M004 M007 M008 M012 M014",
    "F003 F005 F011 F013 F020 F022 M002 M005 M010 M011 M013 M016 M017 M018",
    "F004 F006 F007 F012 F014 F015 F017 F019 F021 M003 M006 M009 M015",
)
_DISFA = (
    "SN001 SN002 SN009 SN010 SN016 SN026 SN027 SN030 SN032",
    "SN006 SN011 SN012 SN013 SN018 SN021 SN024 SN028 SN031",
    "SN003 SN004 SN005 SN007 SN008 SN017 SN023 SN025 SN029",
)
PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "bp4d": tuple(tuple(part.split()) for part in _BP4D),
    "disfa": tuple(tuple(part.split()) for part in _DISFA),
}


def split_subjects(
    dataset: str, subjects: Sequence[str], fold: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Splits the `subjects` at hand into sorted training and test subjects.

    A subject that is in no part (a synthetic extra) trains in fold 0 only.

    Raises:
        UserError: unknown data set or fold, or a fold that leaves one of the two sides empty.
    """
    if dataset not in PARTS:
        raise UserError(f"data.name={dataset!r} has no folds; expected one of {', '.join(PARTS)}")
    parts = PARTS[dataset]
    if fold not in range(len(parts) + 1):
        raise UserError(f"data.fold={fold} does not exist; expected 0 (all train) to {len(parts)}")
    if fold == 0:
        return tuple(sorted(subjects)), ()
    tested = set(parts[len(parts) - fold])
    known = set().union(*parts)
    train = tuple(sorted(s for s in subjects if s in known - tested))
    test = tuple(sorted(s for s in subjects if s in tested))
    for side, found in (("training", train), ("test", test)):
        if not found:
            raise UserError(
                f"data.fold={fold} of {dataset} leaves no {side} subject among "
                f"{', '.join(sorted(subjects))}; it tests {', '.join(sorted(tested))}"
            )
    return train, test
