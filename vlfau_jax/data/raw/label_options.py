"""What the user says about a raw tree that its files leave open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vlfau_jax.errors import UserError

AU_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "occurrence": "1 active, 0 not",
        "probability": "0 to 1, active from 0.5 on (py-feat)",
        "intensity": "0 to 5, of which the whole part counts; data.threshold decides",
    }
)
_UNKNOWN = re.compile(r"-?\d{1,5}", re.ASCII)


@dataclass(frozen=True)
class LabelOptions:
    """Answers to what a raw tree leaves open; the defaults refuse what is doubtful.

    Attributes:
        accept_similar_subjects: subjects whose names differ in case, zeros or separators only are
            different people.
        au_columns: what the columns AU12 (or AU01) of labels.csv hold, a key of `AU_COLUMNS`.
        unknown_codes: numbers that mean unknown in labels.csv, such as "-1" and "9".
        subjects_from_folders: labels.csv has no column `subject`: the first folder of a picture's
            path is its subject.
    """

    accept_similar_subjects: bool = False
    au_columns: str = "occurrence"
    unknown_codes: tuple[str, ...] = ()
    subjects_from_folders: bool = False

    def __post_init__(self) -> None:
        """Raises UserError for values that have no meaning."""
        if self.au_columns not in AU_COLUMNS:
            raise UserError(
                f"--au_columns={self.au_columns!r:.40} is unknown; expected one of "
                f"{', '.join(AU_COLUMNS)}"
            )
        for code in self.unknown_codes:
            if not _UNKNOWN.fullmatch(code) or 0 <= int(code) <= 5:
                raise UserError(
                    f"--unknown_codes={code!r:.40}: expected a whole number that is no code, such "
                    "as -1 or 9"
                )

    def refuse_those_of_tables(self, layout: str) -> None:
        """Raises UserError for options that speak about labels.csv, which `layout` has not."""
        for flag, given in (
            (f"--au_columns={self.au_columns}", self.au_columns != "occurrence"),
            (f"--unknown_codes={','.join(self.unknown_codes)}", self.unknown_codes),
            ("--subjects_from_folders", self.subjects_from_folders),
        ):
            if given:
                raise UserError(f"{flag} is about labels.csv, which {layout} has not; leave it out")


STRICT = LabelOptions()


def au_columns_help() -> str:
    """Help for `prepare --au_columns`."""
    forms = "; ".join(f"{name}: {meaning}" for name, meaning in AU_COLUMNS.items())
    return f"what the columns AU1, AU12, ... of labels.csv hold ({forms})"
