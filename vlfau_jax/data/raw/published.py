"""What is published about BP4D and DISFA: facts to hold a raw tree against, each with its source.

A full licensed tree should agree with all of them; a partial or rendered one agrees with few. They
inform the integrity report and never stop a preparation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vlfau_jax.data.read.folds import PARTS
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS

# First and last coded frame of tasks T1 to T8, one subject a line. Derived from the image lists of
# github.com/CVI-SZU/ME-GraphAU (MIT licence), data/BP4D/list/BP4D_test_img_path_fold{1,2,3}.txt:
# the smallest and the largest frame number; every run there is contiguous.
_BP4D_RUNS = """
F001 2440-2992 721-1294 1-273 664-1172 1-518 1-493 377-862 363-890
F002 1-521 1-546 1-251 1456-1997 631-1181 1-553 610-1235 809-1155
F003 712-1223 859-1489 1-278 472-981 546-1059 1-211 1-516 408-935
F004 898-1208 1093-1593 1-281 1098-1587 496-1263 1-500 1425-1925 1-385
F005 875-1375 1103-1603 1-303 625-1125 814-1377 318-844 270-752 1-535
F006 410-841 1090-1600 1-363 495-1020 474-975 188-683 478-951 1-272
F007 643-1123 1-503 1-380 1126-1591 72-564 1-502 757-1265 1-239
F008 288-771 875-1373 1-303 422-900 390-891 156-636 1045-1492 1-499
F009 571-996 1-493 1-345 145-641 168-631 689-1170 1137-1591 1-135
F010 284-703 1206-1581 1-348 99-581 1-495 62-548 100-561 1-195
F011 404-853 809-1308 1-419 1-499 893-1387 611-1088 820-1291 1-419
F012 253-738 1111-1603 1-393 704-1193 98-583 32-516 1579-2069 1-219
F013 475-954 1-500 1-351 324-821 1-498 1078-1555 549-1033 1-144
F014 415-912 580-1068 1-314 1-497 515-1003 524-985 623-1119 1-244
F015 685-1170 1082-1578 1-318 1771-2270 1-498 1017-1504 981-1481 1-163
F016 27-523 513-1011 1-316 982-1481 451-950 897-1354 33-513 1-259
F017 170-649 1106-1598 1-450 18-502 145-620 590-1329 985-1484 1-199
F018 617-1103 1-496 1-280 480-968 304-802 877-1372 1352-1861 1-268
F019 198-693 556-1047 1-268 1-497 203-699 1-498 801-1297 1-244
F020 847-1347 1099-1597 1-329 1-498 1-496 973-1459 902-1401 1-336
F021 1-494 1024-1510 1-227 210-703 427-924 1-337 1083-1577 1-415
F022 1130-1629 278-773 1-334 672-1167 282-778 1-354 462-952 1-425
F023 1-474 1126-1618 1-383 694-1191 328-827 1002-1495 1-475 1-409
M001 708-1319 1-634 1-287 564-1153 459-989 160-690 760-1341 1-386
M002 205-705 1-603 1-281 704-1224 633-1125 402-902 747-1369 375-684
M003 208-736 1081-1594 1-234 1440-1902 844-1363 1-308 1386-1929 1-267
M004 246-730 935-1434 1-304 990-1500 306-806 75-575 377-877 1-218
M005 460-904 1007-1604 1-235 343-746 1-509 205-676 1070-1587 1-90
M006 753-1270 1108-1596 1-225 444-896 648-1163 511-1015 661-1092 650-1083
M007 315-781 1125-1596 1-320 26-492 412-906 1018-1498 71-551 61-561
M008 224-635 206-704 1-277 1-491 876-1380 55-568 439-920 1-111
M009 82-565 527-1024 1-214 394-883 388-885 173-675 776-1243 1-135
M010 114-582 981-1474 1-311 429-913 493-978 552-987 1-475 1-142
M011 732-1214 72-570 1-294 392-851 634-1122 835-1332 1497-1986 1-256
M012 684-1183 287-783 1-334 839-1334 656-1147 1-496 1-497 1-297
M013 664-1162 1-500 1-356 284-769 1-492 1-498 1-495 1-287
M014 408-901 1-498 1-342 621-1086 834-1332 197-693 647-1144 1-189
M015 583-1326 707-1204 1-335 735-1214 954-1428 1-344 174-668 1-293
M016 423-915 423-915 1-351 310-812 731-1224 747-1240 857-1322 1-354
M017 415-886 1113-1601 1-290 228-725 660-1160 1007-1504 848-1299 1-342
M018 1-497 231-723 1-324 1075-1574 237-735 649-1137 567-1051 1-201
"""
BP4D_RUNS: dict[tuple[str, int], tuple[int, int]] = {
    (subject, task): (int(run.split("-")[0]), int(run.split("-")[1]))
    for subject, *runs in map(str.split, _BP4D_RUNS.strip().splitlines())
    for task, run in enumerate(runs, start=1)
}

# Mavadati et al., IEEE Transactions on Affective Computing 4 (2013): 4,845 frames a subject; one
# label file set is a line short. DISFA has one sequence a subject, our task 1.
DISFA_RUNS: dict[tuple[str, int], tuple[int, int]] = {
    (subject, 1): (1, 4844 if subject == "SN010" else 4845)
    for part in PARTS["disfa"]
    for subject in part
}

# Stretches in which tracking failed, as JAA-Net and AU-Net leave them out: first and last frame,
# 1-based, both of them excluded.
_DISFA_EXCLUDED = """
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
DISFA_EXCLUDED: dict[str, tuple[tuple[int, int], ...]] = {
    subject: tuple((int(run.split("-")[0]), int(run.split("-")[1])) for run in runs)
    for subject, *runs in map(str.split, _DISFA_EXCLUDED.strip().splitlines())
}


@dataclass(frozen=True)
class Published:
    """The facts about one data set.

    Attributes:
        runs: (subject, task) -> first and last labelled frame, both coded.
        rates: action unit -> per cent of all labelled frames in which it is active.
        threshold: the intensity from which `rates` count a unit as active, where no occurrence is
            coded.
        columns: the header of an occurrence file, or "" where the layout has none.
        weights: action unit -> class weight of fold 1's training subjects, as ME-GraphAU ships it:
            n (1 / r_i) / sum_j (1 / r_j) for the rates r of n units.
        excluded: subject -> first and last frame of the stretches that the field leaves out.
    """

    runs: dict[tuple[str, int], tuple[int, int]]
    rates: dict[int, float]
    threshold: int = 2
    columns: str = ""
    weights: dict[int, float] = field(default_factory=dict)
    excluded: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted."""
        return tuple(sorted({subject for subject, _ in self.runs}))

    @property
    def frames(self) -> int:
        """All labelled frames."""
        return self.frames_of(self.subjects)

    def frames_of(self, subjects: Collection[str]) -> int:
        """All labelled frames of some subjects."""
        runs = (run for (subject, _), run in self.runs.items() if subject in subjects)
        return sum(last - first + 1 for first, last in runs)

    def excluded_of(self, subjects: Collection[str]) -> int:
        """Those of them that the field leaves out."""
        return sum(last - first + 1 for s in subjects for first, last in self.excluded.get(s, ()))


def _per_unit(aus: tuple[int, ...], values: str) -> dict[int, float]:
    return dict(zip(aus, map(float, values.split()), strict=True))


# The rates are those of ME-GraphAU's label lists; DISFA's count intensities of 2 and more.
PUBLISHED: dict[str, Published] = {
    "bp4d": Published(
        runs=BP4D_RUNS,
        rates=_per_unit(
            BP4D_AUS,
            "21.14 17.10 20.26 46.09 54.90 59.43 56.20 46.56 16.94 34.33 16.54 15.14",
        ),
        columns="0-39",
        weights=_per_unit(
            BP4D_AUS,
            "1.342985 1.689665 1.248091 0.561356 0.433044 0.435894 "
            "0.457287 0.541004 1.408054 0.722762 1.493145 1.666711",
        ),
    ),
    "disfa": Published(
        runs=DISFA_RUNS,
        rates=_per_unit(DISFA_AUS, "4.97 4.31 15.24 7.89 4.18 12.88 27.71 8.82"),
        excluded=DISFA_EXCLUDED,
    ),
}
