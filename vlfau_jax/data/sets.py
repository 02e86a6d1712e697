"""The data sets, one record each.

A new data set needs a reader, `raw/<name>.py`, and a record here. The record defines its name on
the command line and in `data.name`, its tensorflow-datasets builder, its folds, the facts that its
integrity report compares, the frames that scores leave out, and the layout for `synthesize`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vlfau_jax.data.raw import bp4d, disfa, folder
from vlfau_jax.data.raw.bp4d_published import BP4D_PUBLISHED
from vlfau_jax.data.raw.disfa_labels import CODED_AUS
from vlfau_jax.data.raw.disfa_published import DISFA_PUBLISHED
from vlfau_jax.data.raw.published import UNPUBLISHED, Published
from vlfau_jax.data.raw.tree import RawTree
from vlfau_jax.data.synthetic.bp4d import BP4D_LAYOUT
from vlfau_jax.data.synthetic.disfa import DISFA_LAYOUT
from vlfau_jax.data.synthetic.folder import FOLDER_LAYOUT
from vlfau_jax.data.synthetic.trees import Layout
from vlfau_jax.errors import UserError
from vlfau_jax.facs import BP4D_AUS, DISFA_AUS


@dataclass(frozen=True)
class DataSet:
    """One data set; the defaults are those of a private one of which nothing is published.

    Attributes:
        name: lower-case letters, digits and `_`.
        description: for the documentation of the prepared set.
        read: reads a raw tree, `read(raw_dir, camera=..., frame_offset=..., options=...)`; label
            frame n shows picture n + frame_offset; `camera` is one of `cameras`, or "" if there are
            none; for `options` see `LabelOptions`. Raises UserError for a tree that cannot be
            trusted and for options without a meaning.
        download: how to get the raw tree, and which of its folders is tensorflow-datasets'
            `manual_dir`.
        configs: names of the documented configs, the default first; any other name that
            `prepare/builder.py` can parse is a config, too.
        aus: the n units of every label vector; None if the raw tree defines them.
        benchmark: those of them that the field scores, the default of an experiment.
        cameras: the default first; empty if there is only one.
        published: what is published about it, folds and excluded stretches among it.
        homepage: where it is described.
        citation: what to cite, BibTeX.
        licence: on what terms it may be used.
        layout: how `synthesize` writes a raw tree of it; None if it does not.
    """

    name: str
    description: str
    read: Callable[..., RawTree]
    download: str
    configs: tuple[str, ...] = ("cascade_256", "none_256")
    aus: tuple[int, ...] | None = None
    benchmark: tuple[int, ...] = ()
    cameras: tuple[str, ...] = ()
    published: Published = UNPUBLISHED
    homepage: str = ""
    citation: str = ""
    licence: str = ""
    layout: Layout | None = None


BP4D = DataSet(
    name=bp4d.NAME,
    description="""\
BP4D-Spontaneous: faces of 41 people in eight tasks, coded for twelve facial action units.

What it is: 23 women (F001 to F023) and 18 men (M001 to M018) are filmed from the front, at 25
frames a second and 1040x1392 pixels, while eight tasks (T1 to T8) move them to emotions, from
an amusing conversation to a cold pressor test. Of each of the 328 sequences the most expressive
stretch is coded: 146,847 frames.

Codes: `occurrence` of AU 1 2 4 6 7 10 12 14 15 17 23 24 is 1, 0, or -1 where the coders wrote 9
(unknown); `intensity` is 0 to 5 for AU 6 10 12 14 17 and -1 elsewhere. The units are active in
21.1, 17.1, 20.3, 46.1, 54.9, 59.4, 56.2, 46.6, 16.9, 34.3, 16.5 and 15.1 percent of the frames,
4.05 of them at a time; 7.9 percent of the frames show none.

Licence: Binghamton University licenses it for research and forbids to pass it on, which goes
for the prepared set, too.

How to get it: ask Binghamton University (the homepage names the way); a licensed copy holds
`Sequences(2D+3D)` and `AUCoding`. A tree that was prepared for ME-GraphAU (`img` and `list`)
will do as well.

How to build it:
`python -m vlfau_jax prepare --dataset=bp4d --raw_dir=DIR --data_dir=DIR`""",
    read=bp4d.index_bp4d,
    download="BP4D is licensed by Binghamton University; manual_dir is the folder that holds "
    "'Sequences(2D+3D)' and 'AUCoding'.",
    configs=("cascade_256", "none_256", "cascade_256_offset1"),
    aus=BP4D_AUS,
    benchmark=BP4D_AUS,
    published=BP4D_PUBLISHED,
    homepage="https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html",
    citation="""\
@article{zhang2014bp4d,
  title = {{BP4D-Spontaneous}: a high-resolution spontaneous {3D} dynamic facial expression
    database},
  author = {Zhang, Xing and Yin, Lijun and Cohn, Jeffrey F. and Canavan, Shaun and Reale, Michael
    and Horowitz, Andy and Liu, Peng and Girard, Jeffrey M.},
  journal = {Image and Vision Computing},
  volume = {32},
  number = {10},
  pages = {692--706},
  year = {2014}
}""",
    licence="Licensed by Binghamton University for research; it may not be redistributed.",
    layout=BP4D_LAYOUT,
)

DISFA = DataSet(
    name=disfa.NAME,
    description="""\
DISFA: faces of 27 people who watch a film, coded for the intensity of twelve action units.

What it is: everyone (SN001 to SN032, some numbers are not given) watches the same four minutes
of film clips, before a stereo camera (1024x768 pixels, 20 frames a second). Every frame is
coded: 4,845 of each person (SN010: 4,844), 130,814 in all. A config shows the left camera's
pictures or, with `_right` in its name, the right one's.

Codes: `intensity` of AU 1 2 4 5 6 9 12 15 17 20 25 26 is 0 to 5, or -1 where a label file is
missing; `occurrence` is -1 (not coded): a reader chooses the threshold, 2 in most publications.
At 2 the eight units of the benchmark, AU 1 2 4 6 9 12 25 26, are active in 5.0, 4.3, 15.2, 7.9,
4.2, 12.9, 27.7 and 8.8 percent of the frames; 53.7 percent of the frames show none of them.
Tracking failed in 4,670 frames, which are in the set; readers may leave them out.

Licence: for research, by an agreement with the authors; it may not be passed on, which goes for
the prepared set, too.

How to get it: ask Mohammad Mahoor's laboratory at the University of Denver (the homepage names
the way); a copy holds `ActionUnit_Labels`, `Videos_LeftCamera` and `Video_RightCamera`. A tree
that was prepared for ME-GraphAU (`img` and `list`) will do as well: it has `occurrence` and no
intensities.

How to build it:
`python -m vlfau_jax prepare --dataset=disfa --raw_dir=DIR --data_dir=DIR [--camera=right]`""",
    read=disfa.index_disfa,
    download="DISFA is licensed by Mohammad Mahoor's laboratory at the University of Denver; "
    "manual_dir is the folder that holds 'ActionUnit_Labels' and the cameras' videos.",
    configs=(
        "cascade_256",
        "cascade_256_right",
        "none_256",
        "none_256_right",
        "cascade_256_offset-1",
    ),
    aus=CODED_AUS,
    benchmark=DISFA_AUS,
    cameras=disfa.CAMERAS,
    published=DISFA_PUBLISHED,
    homepage="http://mohammadmahoor.com/disfa/",
    citation="""\
@article{mavadati2013disfa,
  title = {{DISFA}: a spontaneous facial action intensity database},
  author = {Mavadati, S. Mohammad and Mahoor, Mohammad H. and Bartlett, Kevin and Trinh, Philip
    and Cohn, Jeffrey F.},
  journal = {IEEE Transactions on Affective Computing},
  volume = {4},
  number = {2},
  pages = {151--160},
  year = {2013}
}""",
    licence="Licensed by its authors (University of Denver) for research; not redistributable.",
    layout=DISFA_LAYOUT,
)

FOLDER = DataSet(
    name=folder.NAME,
    description="""\
Pictures of one's own with a table of their action units, `labels.csv`.

What it is: whatever the folder holds. Which units `occurrence` and `intensity` speak of, and in
which order, is in metadata.json (`aus`).

Licence: that of the pictures.

How to build it:
`python -m vlfau_jax prepare --dataset=folder --raw_dir=DIR --data_dir=DIR`""",
    read=folder.index_folder,
    download="manual_dir is the folder that holds labels.csv.",
    layout=FOLDER_LAYOUT,
)

SETS: dict[str, DataSet] = {one.name: one for one in (BP4D, DISFA, FOLDER)}


def data_set(name: str, option: str, otherwise: str = "") -> DataSet:
    """The record of a data set.

    Args:
        name: one of `SETS`.
        option: the flag or config key that named it, for the message.
        otherwise: what else is expected there, for the message.

    Raises:
        UserError: there is no such data set.
    """
    if name not in SETS:
        raise UserError(
            f"{option}={name!r} is not a data set; expected one of {', '.join(SETS)}{otherwise}"
        )
    return SETS[name]


def layouts() -> dict[str, Layout]:
    """The layouts that `synthesize` can write, by name."""
    return {name: one.layout for name, one in SETS.items() if one.layout is not None}


def with_coded_runs() -> str:
    """The layouts that `synthesize --coded_runs` can write, as text."""
    return " or ".join(name for name, layout in layouts().items() if layout.coded_runs)


def frames_help() -> str:
    """Help for `synthesize --frames`."""
    tasks = ", ".join(f"{name} {len(layout.tasks)}" for name, layout in layouts().items())
    return f"coded frames per sequence; sequences a subject: {tasks}"


def coded_runs_help() -> str:
    """Help for `synthesize --coded_runs`."""
    runs = "; ".join(
        f"{name}: {sum(last - first + 1 for first, last in layout.coded_runs.values()):,} in all "
        f"with --subjects={len({subject for subject, _ in layout.coded_runs})}"
        for name, layout in layouts().items()
        if layout.coded_runs
    )
    return f"instead of --frames: the frame numbers of the published coded runs ({runs})"


def camera_help() -> str:
    """Help for `prepare --camera`."""
    return "; ".join(
        f"{name}: {one.cameras[0]} (the default) or {' or '.join(one.cameras[1:])}"
        for name, one in SETS.items()
        if one.cameras
    )
