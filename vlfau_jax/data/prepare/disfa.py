"""DISFA as a tensorflow-datasets builder.

Import this module and `tfds.data_source("disfa/cascade_256", ...)` works for anybody.
"""

from __future__ import annotations

from pathlib import Path

from vlfau_jax.data.prepare.builder import AuBuilder, AuConfig, listed_configs
from vlfau_jax.data.raw.disfa import CAMERAS, index_disfa
from vlfau_jax.data.raw.disfa_labels import CODED_AUS
from vlfau_jax.data.raw.tree import RawTree


class Disfa(AuBuilder):
    """DISFA: faces of 27 people who watch a film, coded for the intensity of twelve action units.

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
    `python -m vlfau_jax prepare --dataset=disfa --raw_dir=DIR --data_dir=DIR [--camera=right]`
    """

    AUS = CODED_AUS
    CAMERAS = CAMERAS
    HOMEPAGE = "http://mohammadmahoor.com/disfa/"
    CITATION = """\
@article{mavadati2013disfa,
  title = {{DISFA}: a spontaneous facial action intensity database},
  author = {Mavadati, S. Mohammad and Mahoor, Mohammad H. and Bartlett, Kevin and Trinh, Philip
    and Cohn, Jeffrey F.},
  journal = {IEEE Transactions on Affective Computing},
  volume = {4},
  number = {2},
  pages = {151--160},
  year = {2013}
}"""
    LICENSE = "Licensed by its authors (University of Denver) for research; not redistributable."
    BUILDER_CONFIGS = listed_configs(
        "cascade_256",
        "cascade_256_right",
        "none_256",
        "none_256_right",
        "cascade_256_offset-1",
        cameras=CAMERAS,
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "DISFA is licensed by Mohammad Mahoor's laboratory at the University of Denver; manual_dir "
        "is the folder that holds 'ActionUnit_Labels' and the cameras' videos."
    )

    @classmethod
    def index(cls, raw_dir: str | Path, config: AuConfig) -> RawTree:
        """Reads the labels and finds the videos, see raw.disfa.index_disfa."""
        return index_disfa(raw_dir, camera=config.camera, frame_offset=config.frame_offset)
