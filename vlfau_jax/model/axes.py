"""The logical axis names that parameters of the network may carry: what a dimension counts.

This is all that the model contributes to sharding. `sharding.rules` decides over which devices a
dimension is split, and must have a rule for exactly these names.
"""

from __future__ import annotations

from collections.abc import Mapping

LOGICAL_AXES: Mapping[str, str] = {
    "au": "action-unit branches",
    "heads": "queries, keys and values of all heads; relative position biases, one a head",
    "mlp": "hidden width of a block",
    "hidden": "LSTM state and gates",
    "embed": "residual and input widths",
    "vocab": "words",
    "tap": "the concatenated taps of the fusion",
    "refine": "the bottlenecks of channel attention and of the captioners' attention scores",
    "layers": "pairs of blocks that are scanned",
    "window": "relative positions inside a window",
    "conv": "extent of a kernel",
    "in": "channels that enter a convolution or a patch merging",
}
