"""BP4D-Spontaneous as a tensorflow-datasets builder.

Import this module and `tfds.data_source("bp4d/cascade_256", ...)` works for anybody.
"""

from __future__ import annotations

from pathlib import Path

from vlfau_jax.data.prepare.builder import AuBuilder, AuConfig, listed_configs
from vlfau_jax.data.raw.bp4d import index_bp4d
from vlfau_jax.data.raw.tree import RawTree
from vlfau_jax.facs import BP4D_AUS


class Bp4d(AuBuilder):
    """BP4D-Spontaneous: faces of 41 people in eight tasks, coded for twelve facial action units.

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
    `python -m vlfau_jax prepare --dataset=bp4d --raw_dir=DIR --data_dir=DIR`
    """

    AUS = BP4D_AUS
    HOMEPAGE = "https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html"
    CITATION = """\
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
}"""
    LICENSE = "Licensed by Binghamton University for research; it may not be redistributed."
    BUILDER_CONFIGS = listed_configs("cascade_256", "none_256", "cascade_256_offset1")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "BP4D is licensed by Binghamton University; manual_dir is the folder that holds "
        "'Sequences(2D+3D)' and 'AUCoding'."
    )

    @classmethod
    def index(cls, raw_dir: str | Path, config: AuConfig) -> RawTree:
        """Reads the labels and lists the pictures, see raw.bp4d.index_bp4d."""
        return index_bp4d(raw_dir, frame_offset=config.frame_offset)
