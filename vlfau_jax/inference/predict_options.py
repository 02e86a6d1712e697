"""What `predict` looks at and says: its options, with their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from vlfau_jax.options import Name, Options

Faces = Literal["all", "largest"]
Captions = Literal["never", "changes", "always"]
FACES, CAPTIONS = get_args(Faces), get_args(Captions)
MOST_FACES = 4096  # in a run of the program


@dataclass(frozen=True)
class PredictOptions(Options):
    """The options of `predict`; each is a flag of the same name.

    Attributes:
        faces: "all" of a picture, or the "largest" alone.
        finder: finds the faces, see `registry.finder_for`.
        every: of a video, the first frame and each n-th after it.
        captions: which faces get sentences, see `describing.Describer`.
        keep_doubtful: describe doubtful faces, too.
        batch_size: the most faces in each run of the program.
    """

    faces: Faces = "all"
    finder: Name = "auto"
    every: Annotated[int, Field(ge=1, le=10**6)] = 1
    captions: Captions = "always"
    keep_doubtful: bool = False
    batch_size: Annotated[int, Field(ge=1, le=MOST_FACES)] = 32
