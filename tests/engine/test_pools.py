"""Which worker of this machine a trial goes to."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from albench import pools
from albench.store import Trial


class Worker(ThreadPoolExecutor):
    """A thread in place of a process."""

    def __init__(self, threads):
        super().__init__(1)

    def shutdown(self, wait=True, kill_workers=False):
        super().shutdown(wait)


@pytest.fixture
def processes(monkeypatch):
    monkeypatch.setattr(pools, "_process", Worker)
    made = pools.Processes(3, 1)
    yield made
    made.close(cancel=False)


def test_a_trial_goes_to_an_idle_worker_that_knows_its_task(processes):
    import threading

    def do(*tasks):
        """Which thread did which task; all at once."""
        together, did = threading.Barrier(len(tasks)), {}

        def call(task):
            together.wait(10)
            did[task] = threading.get_ident()

        for task in tasks:
            processes.submit(Trial(task, "random", 0), lambda task=task: call(task))
        while len(did) < len(tasks) or processes._out:
            processes.wait()
        return did

    first = do("a", "b", "c")
    assert len(set(first.values())) == 3
    assert do("b", "a") == {"b": first["b"], "a": first["a"]}
    assert do("c") == {"c": first["c"]}
    assert do("new")["new"] in first.values()  # no new worker while one is idle
