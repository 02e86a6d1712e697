"""Why a picture's pixels are not to be had: the reasons that reports and predictions count."""

from __future__ import annotations

from typing import Literal

Loss = Literal["image_unreadable", "image_incomplete", "image_too_large"]


class Unreadable(Exception):
    """A file of which no picture can be had.

    Attributes:
        loss: the reason that is counted, a key of `integrity.DROP_REASONS`.
        detail: what is wrong with this one, for a line on the screen.
    """

    def __init__(self, loss: Loss, detail: str) -> None:
        super().__init__(detail)
        self.loss: Loss = loss
        self.detail = detail
