"""MATLAB 5 files, beside scipy's reader."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.io import loadmat, savemat

from albench.tasks.pose import matlab
from albench.tasks.pose.matlab import read_array

ANY = st.sampled_from(["f8", "f4", "u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"]).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=4, max_side=4))
)


@settings(max_examples=60)
@given(array=ANY, compressed=st.booleans())
def test_any_array_is_read_as_scipy_reads_it(tmp_path_factory, array, compressed):
    file = tmp_path_factory.mktemp("mat") / "a.mat"
    savemat(file, {"other": np.ones(3), "cell": np.array([1, "a"], object), "a": array}, do_compression=compressed)
    found, right = read_array(file, "a"), loadmat(file)["a"].astype(np.float64)
    assert found.shape == right.shape
    assert np.array_equal(found, right, equal_nan=True)
    assert read_array(file, "b") is None


@pytest.mark.parametrize("value", ["text", np.array([1, "a"], object), np.ones(2) * 1j])
def test_what_is_no_array_of_real_numbers_is_said(tmp_path, value):
    savemat(tmp_path / "a.mat", {"a": value})
    with pytest.raises(ValueError, match="no array of real numbers"):
        read_array(tmp_path / "a.mat", "a")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    savemat(tmp_path / "a.mat", {"a": np.zeros(1_000_000)}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 20_000
    monkeypatch.setattr(matlab, "MOST_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="a variable of more than"):
        read_array(tmp_path / "a.mat", "a")


def test_a_matlab_4_file_is_said_to_be_none(tmp_path):
    buffer = io.BytesIO()
    savemat(buffer, {"a": np.ones((2, 2))}, format="4")
    (tmp_path / "a.mat").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="no MATLAB 5 file"):
        read_array(tmp_path / "a.mat", "a")
