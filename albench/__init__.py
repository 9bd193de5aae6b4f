"""albench compares active-learning strategies: fair, fast, repeatable.

From Python: `albench.run("quick", out="results/quick")`, `albench.load_results("results/quick")`. To add a strategy,
derive from `albench.Strategy` and register it with `@albench.register_strategy("my-name")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from albench.errors import AlbenchError
from albench.registry import register_companion, register_strategy, register_task

if TYPE_CHECKING:
    from albench.api import load_results, run
    from albench.recipe import Recipe
    from albench.samples import Data, Samples
    from albench.strategy import Companion, Outputs, PoolView, Strategy
    from albench.task import Prediction, Task

__version__ = "0.1.0"

# Loaded when first used: `import albench` and `albench --help` must not wait for torch.
_LAZY = {
    "run": "albench.api",
    "load_results": "albench.api",
    "Recipe": "albench.recipe",
    "Data": "albench.samples",
    "Samples": "albench.samples",
    "Companion": "albench.strategy",
    "Outputs": "albench.strategy",
    "PoolView": "albench.strategy",
    "Strategy": "albench.strategy",
    "Prediction": "albench.task",
    "Task": "albench.task",
}

__all__ = [
    "AlbenchError",
    "Companion",
    "Data",
    "Outputs",
    "PoolView",
    "Prediction",
    "Recipe",
    "Samples",
    "Strategy",
    "Task",
    "load_results",
    "register_companion",
    "register_strategy",
    "register_task",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'albench' has no attribute {name!r}")
