"""MATLAB 5 files, beside scipy's reader."""

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.io import loadmat, savemat

from albench import matlab
from albench.matlab import read_array, read_nested
from albench.tasks.pose.miniature import structs

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


NAMES = st.sampled_from(["a", "b", "name", "left_out"])
LEAVES = st.one_of(
    st.integers(-9, 9).map(float),
    st.text("aä漢", min_size=1, max_size=4),
    st.just(np.zeros((0, 0))),
    st.just(np.eye(2)),
)


def nested(inner):
    records = st.dictionaries(NAMES, inner, min_size=1, max_size=3)
    cells = st.lists(inner, min_size=1, max_size=3).map(cell)
    return records.flatmap(lambda one: st.integers(1, 3).map(lambda count: structs([one] * count))) | cells


def cell(values):
    array = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        array[0, i] = value
    return array


def plain(value):
    """What scipy reads, in the form of `read_nested`, without the fields called "left_out"."""
    if value.dtype.names:
        names = [name for name in value.dtype.names if name != "left_out"]
        return [{name: plain(one[name]) for name in names} for one in value.flatten(order="F")]
    if value.dtype == object:
        return [plain(one) for one in value.flatten(order="F")]
    return "".join(value.flatten()) if value.dtype.kind == "U" and value.size else value.astype(float).tolist()


def listed(value):
    if isinstance(value, list):
        return [listed(one) for one in value]
    if isinstance(value, dict):
        return {name: listed(one) for name, one in value.items()}
    return value if isinstance(value, str) else (value.tolist() if value.size else [])


@settings(max_examples=60)
@given(value=st.recursive(LEAVES, nested, max_leaves=8), compressed=st.booleans())
def test_nested_values_are_read_as_scipy_reads_them(tmp_path_factory, value, compressed):
    file = tmp_path_factory.mktemp("mat") / "a.mat"
    savemat(file, {"other": "text", "v": value}, do_compression=compressed)
    found = read_nested(file, "v", {"a", "b", "name"})
    assert listed(found) == plain(loadmat(file)["v"])
    assert read_nested(file, "w", set()) is None


@settings(max_examples=300)
@given(data=st.data(), compressed=st.booleans())
def test_a_damaged_struct_is_a_value_or_a_value_error(tmp_path_factory, data, compressed):
    file = tmp_path_factory.getbasetemp() / "damaged.mat"
    inner = structs([{"a": 1.0, "name": "x"}, {"a": np.eye(2), "name": "yy"}])
    savemat(file, {"v": {"a": inner, "b": cell([1.0, "text"])}}, do_compression=compressed)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(128, len(content)))])
    with contextlib.suppress(ValueError):
        read_nested(file, "v", {"a", "b", "name"})


def test_structs_nested_too_deep_are_said(tmp_path):
    matrix = b""
    for _ in range(3000):  # cells in cells
        head = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<II", 1, 0)
        matrix = struct.pack("<II", 14, len(head + matrix)) + head + matrix
    named = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<IIB7x", 1, 1, ord("v"))
    variable = struct.pack("<II", 14, len(named + matrix)) + named + matrix
    (tmp_path / "a.mat").write_bytes(b" " * 124 + struct.pack("<H", 0x0100) + b"IM" + variable)
    with pytest.raises(ValueError, match="damaged"):
        read_nested(tmp_path / "a.mat", "v", set())
