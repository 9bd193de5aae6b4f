"""Arrays, structs and cells from MATLAB 5 files ("MAT-File Format", The MathWorks): for annotations of strangers, too.

scipy's reader is faster and reads everything, and a damaged file can crash the process in its C code; this one checks
every length before it is believed.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MOST_BYTES = 1 << 28  # of one array, unpacked
MOST_NESTED = 1 << 30  # of one struct, unpacked
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # element types
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT = 1, 2, 4  # classes of arrays
_NUMERIC_CLASSES = range(6, 16)  # double, single and the integers
_COMPLEX = 0x800


class _Matrix(NamedTuple):
    """A matrix element: its class, flags, shape and name, and the elements that hold its content."""

    kind: int
    flags: int
    shape: tuple[int, ...]
    name: str
    content: Iterator[tuple[int, memoryview]]
    order: str  # of bytes: "<" or ">"


def read_array(file: Path, name: str, dtype: type[np.generic] = np.float64) -> np.ndarray | None:
    """The real numeric array that is called `name` as `dtype`, or None where the file has none.

    Raises:
        ValueError: no MATLAB 5 file, or a damaged one.
        OSError: it cannot be read.
    """
    try:
        matrix = _variable(file, name, MOST_BYTES)
        return None if matrix is None else _numbers(matrix, dtype)
    except DAMAGE as error:
        raise ValueError(f"it is damaged or cut short: {error}") from error


def read_nested(file: Path, name: str, keep: AbstractSet[str]) -> Any:
    """The variable that is called `name`, or None: of structs only the fields in `keep`, the others are passed over.

    Numbers are float64 arrays, text is a str, a struct array is a list of dicts and a cell array a list, both in
    MATLAB's order, column by column; what is empty is an array of size 0 or an empty list.

    Raises:
        ValueError: no MATLAB 5 file, a damaged one, or a value of another kind.
        OSError: it cannot be read.
    """
    try:
        matrix = _variable(file, name, MOST_NESTED)
        return None if matrix is None else _value(matrix, keep)
    except DAMAGE as error:
        raise ValueError(f"it is damaged or cut short: {error or 'something is missing'}") from error


DAMAGE = (struct.error, zlib.error, StopIteration, RecursionError, MemoryError, OverflowError)


def _variable(file: Path, name: str, most: int) -> _Matrix | None:
    content = memoryview(file.read_bytes())
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if order is None or struct.unpack(f"{order}H", content[124:126])[0] != 0x0100:
        raise ValueError("it is no MATLAB 5 file")
    for kind, body in _elements(content[128:], order):
        if kind == _COMPRESSED:
            kind, body = next(_elements(_unpacked(body, most), order))
        if kind == _MATRIX and (matrix := _matrix(body, order)).name == name:
            return matrix
    return None


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The data elements one after the other: type and body."""
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, step = place + 8, 8 + size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:  # a small element: type and size share a word, and four bytes follow
            kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 8
        if start + size > len(content) or (step == 8 and size > 4 and start == place + 4):
            raise ValueError(f"it is damaged or cut short: an element of {size} bytes at {place}")
        yield kind, content[start : start + size]
        place += step


def _unpacked(body: memoryview, most: int) -> memoryview:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(body, most)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a variable of more than {most >> 20} MB")
    return memoryview(content)


def _matrix(body: memoryview, order: str) -> _Matrix:
    parts = _elements(body, order)
    (_, flags), (_, shape), (_, called) = next(parts), next(parts), next(parts)
    (flag,) = struct.unpack_from(f"{order}I", flags)
    name = bytes(called).decode("latin-1")
    if len(shape) < 8 or len(shape) % 4:
        raise ValueError(f"{name!r} has no shape")
    sides = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if min(sides) < 0:
        raise ValueError(f"{name!r} is damaged: a shape of {sides}")
    return _Matrix(flag & 0xFF, flag, sides, name, parts, order)


def _numbers(matrix: _Matrix, dtype: type[np.generic] = np.float64) -> np.ndarray:
    if matrix.kind not in _NUMERIC_CLASSES or matrix.flags & _COMPLEX:
        raise ValueError(f"{matrix.name!r} is no array of real numbers")
    kind, numbers = next(matrix.content)
    if kind not in _NUMBERS:
        raise ValueError(f"{matrix.name!r} holds no numbers")
    values = np.frombuffer(numbers, f"{matrix.order}{_NUMBERS[kind]}")
    if math.prod(matrix.shape) != len(values):
        raise ValueError(f"{matrix.name!r} is damaged: {len(values)} numbers, and a shape of {matrix.shape}")
    return values.reshape(matrix.shape, order="F").astype(dtype)


def _value(matrix: _Matrix, keep: AbstractSet[str]) -> Any:
    if matrix.kind == _STRUCT:
        return _structs(matrix, keep)
    if matrix.kind == _CELL:
        return [_inner(next(matrix.content), matrix.order, keep) for _ in range(math.prod(matrix.shape))]
    return _text(matrix) if matrix.kind == _TEXT else _numbers(matrix)


def _structs(matrix: _Matrix, keep: AbstractSet[str]) -> list[dict[str, Any]]:
    """Every element of a struct array: for each one a value of every field, one after the other."""
    (_, length), (_, names) = next(matrix.content), next(matrix.content)
    (size,) = struct.unpack_from(f"{matrix.order}i", length)
    if size <= 0 or len(names) % size:
        raise ValueError("a struct is damaged: the names of its fields")
    each = [bytes(names[at : at + size]).partition(b"\0")[0].decode("latin-1") for at in range(0, len(names), size)]
    if not each:
        return []
    found = []
    for _ in range(math.prod(matrix.shape)):
        values = [(field, next(matrix.content)) for field in each]
        found.append({field: _inner(value, matrix.order, keep) for field, value in values if field in keep})
    return found


def _inner(element: tuple[int, memoryview], order: str, keep: AbstractSet[str]) -> Any:
    kind, body = element
    if kind != _MATRIX:
        raise ValueError(f"a struct or cell holds an element of type {kind}")
    return _value(_matrix(body, order), keep) if len(body) else np.zeros(0)


def _text(matrix: _Matrix) -> str:
    kind, letters = next(matrix.content)
    if kind not in _TEXTS:
        raise ValueError(f"{matrix.name!r} holds no text")
    coding = _TEXTS[kind]
    if coding in ("utf-16", "utf-32"):
        coding += "-le" if matrix.order == "<" else "-be"
    return bytes(letters).decode(coding)
