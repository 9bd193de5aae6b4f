"""torch's optimisers without their ties to the compiler, for steps that are not compiled."""

from typing import Any

import torch
from torch.optim import Optimizer

KEPT_OUT = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")  # of graphs, by wrappers


def eager(kind: Any) -> Any:
    """The same class of optimiser, to the bit; torch's wrappers import its compiler, which takes longer than albench.

    Where torch has no such wrappers (they are its own affair), the class is returned as it is.
    """
    inner: dict[str, Any] = {name: getattr(getattr(Optimizer, name), "__wrapped__", None) for name in KEPT_OUT}
    step = getattr(kind.step, "__wrapped__", None)
    if step is None or None in inner.values():
        return kind
    return type(kind.__name__, (kind,), {**inner, "step": torch.no_grad()(step)})
