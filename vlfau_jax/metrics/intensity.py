"""How a probability follows coded intensities, 0 (absent), 1 (trace) to 5 (maximum, FACS A to E).

The network learns occurrence, so no output of it is an intensity. The nearest reading of its
probability p is 5 p, and these metrics compare that with the code. Of the three, the correlation
(PCC) is the one to trust: it does not depend on the scale that nobody taught. ICC and MAE do, and
are given because papers on intensity give them; a network trained on intensities would be better at
all three (Girard, Cohn and De la Torre, "Estimating smile intensity: a better way", 2015, found the
same of the scores of binary classifiers).
"""

from __future__ import annotations

import numpy as np

NAN = float("nan")
MOST = 5  # of the scale


def icc(estimate: np.ndarray, intensity: np.ndarray) -> float:
    """ICC(3,1), two-way mixed, consistency, single measures (Shrout and Fleiss 1979), of [m] each.

    (MSR - MSE) / (MSR + MSE) for two raters, which is 2 cov(x, y) / (var(x) + var(y)). NaN below
    two frames, or where neither varies.
    """
    x, y = _centred(estimate), _centred(intensity)
    scale = x @ x + y @ y
    return float(2 * (x @ y) / scale) if scale else NAN


def pcc(estimate: np.ndarray, intensity: np.ndarray) -> float:
    """Pearson's correlation of [m] each; NaN below two frames or where one is constant."""
    x, y = _centred(estimate), _centred(intensity)
    scale = np.sqrt((x @ x) * (y @ y))
    return float(np.clip((x @ y) / scale, -1, 1)) if scale else NAN


def mae(estimate: np.ndarray, intensity: np.ndarray) -> float:
    """Mean absolute error, 0 to 5, of [m] each; NaN without frames."""
    difference = np.asarray(estimate, np.float64) - intensity
    return float(np.abs(difference).mean()) if difference.size else NAN


def _centred(values: np.ndarray) -> np.ndarray:
    """Values less their mean, float64; exactly 0 where they are all alike, despite rounding."""
    values = np.asarray(values, np.float64)
    if not values.size or np.ptp(values) == 0:
        return np.zeros_like(values)
    return values - values.mean()
