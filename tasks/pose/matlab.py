"""Numeric arrays from MATLAB 5 files ("MAT-File Format", The MathWorks): for annotations that may be a stranger's.

scipy's reader is faster and reads everything, and a damaged file can crash the process in its C code; this one checks
every length before it is believed.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MOST_BYTES = 1 << 28  # of one variable, unpacked
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # element types
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # of arrays: double, single and the integers
_COMPLEX = 0x800


def read_array(file: Path, name: str, dtype: type[np.generic] = np.float64) -> np.ndarray | None:
    """The real numeric array that is called `name` as `dtype`, or None where the file has none.

    Raises:
        ValueError: no MATLAB 5 file, or a damaged one.
        OSError: it cannot be read.
    """
    content = file.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or struct.unpack(f"{order}H", content[124:126])[0] != 0x0100:
        raise ValueError("it is no MATLAB 5 file")
    try:
        for kind, body in _elements(content[128:], order):
            if kind == _COMPRESSED:
                kind, body = next(_elements(_unpacked(body), order))
            if kind == _MATRIX and (array := _array(body, order, name)) is not None:
                return array.astype(dtype)
    except (struct.error, zlib.error, StopIteration) as error:
        raise ValueError(f"it is damaged or cut short: {error}") from error
    return None


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
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


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(body, MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a variable of more than {MOST_BYTES >> 20} MB")
    return content


def _array(body: bytes, order: str, name: str) -> np.ndarray | None:
    """The array of a matrix element; None where it is called otherwise."""
    parts = _elements(body, order)
    (_, flags), (_, shape), (_, called) = next(parts), next(parts), next(parts)
    if called != name.encode():
        return None
    (flag,) = struct.unpack_from(f"{order}I", flags)
    if flag & 0xFF not in _NUMERIC_CLASSES or flag & _COMPLEX:
        raise ValueError(f"{name!r} is no array of real numbers")
    if len(shape) < 8 or len(shape) % 4:
        raise ValueError(f"{name!r} has no shape")
    kind, numbers = next(parts)
    if kind not in _NUMBERS:
        raise ValueError(f"{name!r} holds no numbers")
    values = np.frombuffer(numbers, f"{order}{_NUMBERS[kind]}")
    sides = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if min(sides) < 0 or math.prod(sides) != len(values):
        raise ValueError(f"{name!r} is damaged: {len(values)} numbers, and a shape of {sides}")
    return values.reshape(sides, order="F")
