"""What the server answers: schemas of its JSON, made from what a model found in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vlfau_jax import __version__
from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.decoding import MOST_PIXELS
from vlfau_jax.facs import ACTION_UNITS
from vlfau_jax.inference.explained import Explanation, WordMaps
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace
from vlfau_jax.inference.prediction import DropReason
from vlfau_jax.serve.options import ServeOptions

Probability = float | None
Map = list[list[float]]
MOST_DESCRIBED = 32  # of a picture that are described: memory and time are bounded
_DIGITS = 5  # of a map's values


class Strict(BaseModel):
    """A schema without other keys than its own."""

    model_config = ConfigDict(extra="forbid")


class Unit(Strict):
    """What is said of one action unit; null where training could not teach it."""

    probability: Probability = Field(ge=0, le=1, description="that the unit is present")
    active: bool | None = Field(description="whether the probability exceeds the unit's threshold")
    sentence: str | None = Field(description="as generated; it can disagree with `active`")
    sentence_probability: Probability = Field(
        ge=0, le=1, description="geometric mean of its words', its end counted"
    )


class Word(Strict):
    """A word of a sentence and where the captioner looked as it wrote it."""

    text: str
    map: Map = Field(description="attention, rows from top to bottom; the sum is 1")


class Maps(Strict):
    """Where the network looked, over the cropped face; null for what the model does not have."""

    branch: dict[str, Map] | None = Field(description="of each unit's branch, by its number")
    words: dict[str, list[Word]] | None = Field(description="of each unit's sentence")
    sentence: list[Word] | None = Field(description="of the sentence about the whole face")


class Described(Strict):
    """One face."""

    face_id: int = Field(ge=0, description="the largest is 0")
    box: list[float] | None = Field(
        min_length=4,
        max_length=4,
        description="left, top, width and height in pixels of the upright picture",
    )
    confidence: Probability = Field(ge=0, le=1, description="the face finder's own; null: none")
    doubt: DropReason | None = Field(description="what makes the face doubtful; null: nothing")
    detail: str = Field(description="the doubt in numbers or words")
    sentence: str | None = Field(description="about the whole face; null: the model writes none")
    sentence_probability: Probability = Field(ge=0, le=1)
    per_au: dict[str, Unit] = Field(description="by the unit's number")
    maps: Maps | None = Field(description="with ?maps=true")


class Answer(Strict):
    """What was found in a picture."""

    found: int = Field(ge=0, description="faces in the picture")
    finder: str = Field(description="the crop rule that found them, or found none")
    reason: DropReason | None = Field(description="why no face is described; null: one is")
    detail: str = Field(description="the reason in numbers or words")
    faces: list[Described] = Field(
        description=f"the largest first, {MOST_DESCRIBED} at most; with --faces=largest that one"
    )
    synthetic: bool = Field(
        description="whether the model was trained on rendered faces: it knows no real ones"
    )


class UnitOfModel(Strict):
    """An action unit that the model scores."""

    au: int
    name: str
    threshold: float
    untaught: str | None = Field(description="why training could not teach it; null: it could")


class ModelFacts(Strict):
    """The model that answers, and what the server takes."""

    version: str
    digest: str = Field(description="SHA-256 of the model folder")
    aus: list[UnitOfModel]
    captions: list[Literal["local", "global"]]
    crop_rule: str
    finder: str = Field(description="the crop rule that finds the faces that are sent")
    image_size: int
    synthetic: bool
    most_bytes: int = Field(description="of a picture's file")
    most_pixels: int


class Problem(Strict):
    """Why a request was refused."""

    error: str


@dataclass(frozen=True)
class Result:
    """What there is to answer about a picture.

    Attributes:
        found: its faces, the largest first; where there is none, one entry that says why.
        explained: of each face; empty where there is none.
    """

    found: Sequence[FoundFace]
    explained: Sequence[Explanation]


def answer(result: Result, model: ExportedModel, maps: bool) -> Answer:
    """The JSON about a picture, with the maps or without."""
    first, faces = result.found[0], []
    for number, (found, explained) in enumerate(zip(result.found, result.explained, strict=False)):
        said = explained.prediction.to_json()
        faces.append(
            Described(
                face_id=number,
                box=None if found.box is None else [round(float(side), 2) for side in found.box],
                confidence=found.confidence,
                doubt=found.reason,
                detail=found.detail if found.reason else "",
                sentence=said["sentence"],
                sentence_probability=said["sentence_probability"],
                per_au=said["per_au"],
                maps=_maps(explained) if maps else None,
            )
        )
    return Answer(
        found=first.faces,
        finder=first.finder,
        reason=None if faces else first.reason,
        detail="" if faces else first.detail,
        faces=faces,
        synthetic=model.synthetic,
    )


def model_facts(model: ExportedModel, finder: CropRule, options: ServeOptions) -> ModelFacts:
    """The JSON about the model, and about what finds the faces that it describes."""
    return ModelFacts(
        version=__version__,
        digest=model.digest,
        aus=[
            UnitOfModel(
                au=au,
                name=ACTION_UNITS[au].name,
                threshold=threshold,
                untaught=model.untaught.get(au),
            )
            for au, threshold in zip(model.aus, model.thresholds, strict=True)
        ],
        captions=list(model.captions),
        crop_rule=model.crop_rule.name,
        finder=finder.name,
        image_size=model.image_size,
        synthetic=model.synthetic,
        most_bytes=options.most_bytes,
        most_pixels=MOST_PIXELS,
    )


def _maps(explained: Explanation) -> Maps:
    aus = explained.prediction.aus
    return Maps(
        branch=_by_unit(aus, explained.spatial_maps, _map),
        words=_by_unit(aus, explained.words, _words),
        sentence=None if explained.global_words is None else _words(explained.global_words),
    )


def _by_unit(
    aus: Sequence[int], values: Sequence[Any] | np.ndarray | None, made: Any
) -> Mapping[str, Any] | None:
    if values is None:
        return None
    return {str(au): made(value) for au, value in zip(aus, values, strict=True)}


def _map(values: np.ndarray) -> Map:
    return np.round(values.astype(np.float64), _DIGITS).tolist()


def _words(words: WordMaps) -> list[Word]:
    pairs = zip(words.words, words.maps, strict=True)
    return [Word(text=text, map=_map(values)) for text, values in pairs]
