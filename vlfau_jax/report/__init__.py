"""report.html: one self-contained page with curves, scores, floors, faces, maps and sentences."""

from vlfau_jax.report.faces import CHOICE, Face, choose
from vlfau_jax.report.page import render

__all__ = ["CHOICE", "Face", "choose", "render"]
