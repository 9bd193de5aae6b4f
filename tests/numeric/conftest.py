import pytest
from torch.utils._python_dispatch import TorchDispatchMode


class Readbacks(TorchDispatchMode):
    """How often a value is read back: on a GPU each time would be waited for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function._schema.name == "aten::_local_scalar_dense"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def readbacks():
    """`readbacks(work)` counts them."""

    def count(work):
        with Readbacks() as seen:
            work()
        return seen.count

    return count
