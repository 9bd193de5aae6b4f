"""What probabilities are worth beyond their order. Arrays in, numbers out."""

import numpy as np

BINS = 15


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: Σ over bins of (share of samples in it) · |accuracy − mean confidence| there.

    Bins are of equal width over [0, 1], closed on the right, as in Guo et al. ("On Calibration of Modern Neural
    Networks", ICML 2017). confidence: the highest probability [N]; correct: bool [N]. NaN for no samples.

    >>> calibration_error(np.array([0.9, 0.9, 0.5]), np.array([True, False, True]))
    0.43333333333333335
    """
    if not len(confidence):
        return float("nan")
    confidence = np.asarray(confidence, np.float64)
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    gap = np.bincount(bin_of, np.asarray(correct, np.float64) - confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))
