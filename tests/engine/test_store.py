"""A record is whole or it is not there."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albench.errors import AlbenchError
from albench.store import Store, Trial, _seal, _unseal

TRIAL = Trial("a", "b", 3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_a_sealed_record_comes_back(record):
    line = _seal(record)
    assert line.count(b"\n") == 1
    assert _unseal(line.rstrip(b"\n")) == record


@settings(max_examples=30)
@given(st.data())
def test_a_file_cut_anywhere_keeps_the_whole_records_and_goes_on(tmp_path_factory, data):
    store = Store(tmp_path_factory.mktemp("store"))
    for number in range(3):
        store.append(TRIAL, {"stage": number})
    path = store._trial(TRIAL)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    kept = store.records(TRIAL)
    assert kept == [{"stage": number} for number in range(content[:cut].count(b"\n"))]
    store.append(TRIAL, {"stage": 9})
    assert store.records(TRIAL) == [*kept, {"stage": 9}]


def test_a_damaged_record_in_the_middle_is_named(tmp_path):
    store = Store(tmp_path)
    for number in range(3):
        store.append(TRIAL, {"stage": number})
    path = store._trial(TRIAL)
    path.write_bytes(path.read_bytes().replace(b'"stage":1', b'"stage":7'))
    with pytest.raises(AlbenchError, match="line 2: a damaged record"):
        store.records(TRIAL)


def test_a_training_is_there_once_its_record_is(tmp_path):
    store = Store(tmp_path)
    assert store.trained("x") is None
    assert store.weights("x") is None
    outcomes, weights = {"loss": np.arange(3.0)}, {"model.w": torch.arange(4.0)}
    store.save_trained("x", {"metrics": {"accuracy": 0.5}}, outcomes, weights)
    assert store.trained("x") == {"metrics": {"accuracy": 0.5}}
    assert np.array_equal(store.outcomes("x")["loss"], outcomes["loss"])
    assert torch.equal(store.weights("x")["model.w"], weights["model.w"])
    (tmp_path / "trained" / "x.safetensors").write_bytes(b"torn")
    assert store.weights("x") is None


def test_outcomes_are_never_unpickled(tmp_path):
    (tmp_path / "trained").mkdir()
    np.savez(tmp_path / "trained" / "x.npz", evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(AlbenchError, match="cannot be read"):
        Store(tmp_path).outcomes("x")


def test_trials_are_found_by_their_files(tmp_path):
    store = Store(tmp_path)
    for trial in (TRIAL, Trial("digit-scenes", "core-set", 0)):
        store.append(trial, {})
    assert store.trials() == [TRIAL, Trial("digit-scenes", "core-set", 0)]
