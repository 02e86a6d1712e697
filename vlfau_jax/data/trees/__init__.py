"""Readers of raw trees: folders listed, labels checked cell by cell, no picture opened."""
