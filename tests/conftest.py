"""What every test may lean on; tests that need a GPU, real data or patience are skipped with a reason."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# A busy machine is no reason to fail; in CI the same examples every time, elsewhere new ones.
settings.register_profile("albench", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("albench")

DATA = Path(os.environ.get("ALBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    skips = {
        "gpu": (not torch.cuda.is_available(), "no CUDA device"),
        "data": (not DATA.is_dir(), f"no real data at {DATA}"),
        "slow": (not config.getoption("--slow"), "slow: run with --slow"),
    }
    for item in items:
        for mark, (skip, reason) in skips.items():
            if skip and mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _one_thread_and_own_cache(tmp_path_factory, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("ALBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def data_root():
    """The folder of the real data subsets, for tests marked `data`."""
    return DATA
