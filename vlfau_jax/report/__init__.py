"""report.html: one self-contained page with curves, scores, floors, faces, maps and sentences."""

from vlfau_jax.report.page import render

__all__ = ["render"]
