"""Numbers and names of metrics as a report writes them."""

import numpy as np

WRITTEN = {"map": "mAP", "ap": "AP", "pck": "PCK", "pckh": "PCKh"}


def metric_name(metric: str) -> str:
    """A metric as the field writes it.

    >>> metric_name("pck@0.2")
    'PCK@0.2'
    """
    if metric == "objective":
        return "training objective"
    head, at, tail = metric.partition("@")
    head, dash, variant = head.partition("-")
    return WRITTEN.get(head, head) + dash + variant + at + tail


def number(value: float, digits: int = 4, sign: bool = False) -> str:
    """A number, or a dash where there is none; minus signs as wide as plus signs, and none before what rounds to 0.

    >>> number(-0.00123, 4, sign=True), number(-0.00001, 4, sign=True), number(float("nan"))
    ('−0.0012', '0.0000', '–')
    """
    if not np.isfinite(value):
        return "–"
    written = f"{value:{'+' if sign else ''}.{digits}f}"
    return written.replace("-", "−") if float(written) else written.lstrip("+-")


def mean_std(mean: float, std: float, digits: int = 4) -> str:
    """'mean ± std', breakable only before ±; the mean alone for one seed."""
    return number(mean, digits) + (f" ±\u00a0{number(std, digits)}" if np.isfinite(std) else "")


def interval(low: float, high: float, digits: int = 4) -> str:
    """' [low, high]' with signs, breakable only before it; '' where there is none."""
    return f" [{number(low, digits, True)},\u00a0{number(high, digits, True)}]" if np.isfinite(low) else ""


def p_value(p: float) -> str:
    """A p-value as papers print it.

    >>> p_value(0.0123), p_value(0.00004), p_value(float("nan"))
    ('.012', '<\xa0.001', '–')
    """
    if not np.isfinite(p):
        return "–"
    return "<\u00a0.001" if p < 0.0005 else ">\u00a0.999" if p > 0.9995 else f"{p:.3f}"[1:]


def percent(share: float) -> str:
    """A level as it is written, with a narrow space.

    >>> percent(0.95), percent(0.999)
    ('95\u202f%', '99.9\u202f%')
    """
    return f"{100 * share:.4g}\u202f%"
