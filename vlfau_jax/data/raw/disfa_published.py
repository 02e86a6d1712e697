"""What is published about DISFA: fold parts, coded runs, activation rates, excluded stretches."""

from __future__ import annotations

from vlfau_jax.data.raw.published import Published, per_unit
from vlfau_jax.facs import DISFA_AUS

# The subject-exclusive fold parts of ME-GraphAU and JAA-Net.
_PARTS = (
    "SN001 SN002 SN009 SN010 SN016 SN026 SN027 SN030 SN032",
    "SN006 SN011 SN012 SN013 SN018 SN021 SN024 SN028 SN031",
    "SN003 SN004 SN005 SN007 SN008 SN017 SN023 SN025 SN029",
)

# Stretches in which tracking failed, as JAA-Net and AU-Net leave them out: first and last frame,
# 1-based, both of them excluded.
_EXCLUDED = """
SN001 398-420 3190-3243
SN002 800-826
SN004 4541-4555
SN006 1349-1405
SN009 1736-1808 1851-1885
SN011 4529-4533 4830-4845
SN021 574-616 985-1164 1190-1205 1305-1338 1665-1710 1862-2477 2554-4657 4710-4722
SN023 1021-1049 3378-3557 3584-3668 4547-4621 4741-4772 4825-4845
SN025 4596-4662 4816-4835
SN027 3461-3494 4738-4785
SN028 1875-1885 4571-4690
SN029 4090-4543
SN030 939-962 1406-1422 2100-2132 2893-2955
"""


def _excluded_stretches() -> dict[str, tuple[tuple[int, int], ...]]:
    stretches = {}
    for subject, *runs in map(str.split, _EXCLUDED.strip().splitlines()):
        ends = (run.split("-") for run in runs)
        stretches[subject] = tuple((int(first), int(last)) for first, last in ends)
    return stretches


_SUBJECTS = tuple(subject for part in _PARTS for subject in part.split())

# Runs: Mavadati et al., IEEE Transactions on Affective Computing 4 (2013): 4,845 frames a subject;
# the label files of one subject are a line short. DISFA has one sequence a subject, our task 1.
# The rates are those of ME-GraphAU's label lists, which count intensities of 2 and more.
DISFA_PUBLISHED = Published(
    parts=tuple(tuple(part.split()) for part in _PARTS),
    runs={(s, 1): (1, 4844 if s == "SN010" else 4845) for s in _SUBJECTS},
    rates=per_unit(DISFA_AUS, "4.97 4.31 15.24 7.89 4.18 12.88 27.71 8.82"),
    excluded=_excluded_stretches(),
    excluded_by="JAA-Net's list",
)
