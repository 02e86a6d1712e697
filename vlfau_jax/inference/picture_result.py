"""What is found for one face of a picture: a prediction, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlfau_jax.inference.faces import FoundFace
from vlfau_jax.inference.prediction import DropReason, Prediction


@dataclass(frozen=True)
class PictureResult:
    """The result for one picture: a prediction, or the reason why there is none.

    Attributes:
        prediction: of the largest face; None where the picture was dropped.
        drop_reason: a key of `prediction.DROP_REASONS`; None where there is a prediction.
        doubt: such a key where a doubtful face was described all the same; else None.
        detail: the reason or the doubt in numbers or words; may be empty.
        confidence: the face finder's own, 0-1; None where it states none, or there is no face.
        faces: how many faces were found in the picture.
        box: left, top, width, height of the face in the picture's pixels; None without one.
        finder: the crop rule that looked for it; "" where none did.
    """

    prediction: Prediction | None
    drop_reason: DropReason | None = None
    doubt: DropReason | None = None
    detail: str = ""
    confidence: float | None = None
    faces: int = 0
    box: tuple[float, float, float, float] | None = None
    finder: str = ""

    @classmethod
    def of(cls, face: FoundFace, prediction: Prediction | None) -> PictureResult:
        """The result for a face: with a prediction a doubt, without one the reason why."""
        return cls(
            prediction=prediction,
            drop_reason=None if prediction is not None else face.reason,
            doubt=face.reason if prediction is not None else None,
            detail=face.detail,
            confidence=face.confidence,
            faces=face.faces,
            box=face.box,
            finder=face.finder,
        )

    def about_the_face(self) -> dict[str, Any]:
        """The keys of its line of predictions.jsonl that say how well the face was found.

        "confidence", 0 where there is no face; "faces"; "finder"; "box"; and "reason" and "detail"
        where it was dropped or is doubtful.
        """
        confidence = self.confidence if self.faces else 0.0
        facts: dict[str, Any] = {
            "confidence": None if confidence is None else round(confidence, 4),
            "faces": self.faces,
            "finder": self.finder or None,
            "box": None if self.box is None else [round(float(side), 2) for side in self.box],
        }
        if reason := self.drop_reason or self.doubt:
            facts |= {"reason": reason, "detail": self.detail}
        return facts
