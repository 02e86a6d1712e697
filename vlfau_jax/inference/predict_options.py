"""What `predict` looks at and says: its options, with their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from vlfau_jax.options import Name, Options

Faces = Literal["all", "largest"]
Captions = Literal["never", "changes", "always"]
Baseline = Literal["none", "median"]
FACES, CAPTIONS, BASELINES = get_args(Faces), get_args(Captions), get_args(Baseline)
MOST_FACES = 4096  # in a run of the program


@dataclass(frozen=True)
class PredictOptions(Options):
    """The options of `predict`; each is a flag of the same name.

    Attributes:
        faces: "all" of a picture, or the "largest" alone.
        finder: finds the faces, see `registry.finder_for`.
        every: of a video, the first frame and each n-th after it.
        captions: which faces get sentences, see `describing.Describer`.
        camera: number of a webcam from 0, whose frames are the one input; -1 for none.
        seconds: how long the webcam is looked at.
        smooth: seconds of a video over which a person's probabilities are averaged; 0 for none.
        baseline: what is subtracted from a person's probabilities in a video, see `timelines`.
        format: other files that are written, by `table_formats.FORMATS`, with commas between.
        overlay: draw what was found on the pictures and videos.
        keep_doubtful: describe doubtful faces, too.
        batch_size: the most faces in each run of the program.
    """

    faces: Faces = "all"
    finder: Name = "auto"
    every: Annotated[int, Field(ge=1, le=10**6)] = 1
    captions: Captions = "always"
    camera: Annotated[int, Field(ge=-1, le=99)] = -1
    seconds: Annotated[float, Field(gt=0, le=86400)] = 10.0
    smooth: Annotated[float, Field(ge=0, le=60)] = 0.0
    baseline: Baseline = "none"
    format: Name = ""
    overlay: bool = False
    keep_doubtful: bool = False
    batch_size: Annotated[int, Field(ge=1, le=MOST_FACES)] = 32

    @property
    def formats(self) -> tuple[str, ...]:
        """The names in `format`."""
        return tuple(filter(None, self.format.split(",")))
