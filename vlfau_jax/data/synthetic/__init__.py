"""Synthetic faces: a procedural face renderer, and raw trees of its pictures in several layouts."""
