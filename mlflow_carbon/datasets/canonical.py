"""Values in canonical bytes: equal content gives equal bytes in every process, on every machine.

Layout of form 1 (a change of a single byte is a new form):

* A column is three streams: its values, the lengths of its values where they vary, and the positions
  of the missing ones. Streams do not depend on how the column was cut into pieces.
* Numbers are little-endian of their own width; every NaN is the same NaN, and is a missing value.
* Moments and durations are whole seconds and nanoseconds; a moment with a time zone is one of UTC.
* A value of any other type is one letter for its type and its text; containers hold values with their
  lengths before them. Dictionaries and sets are sorted, lists keep their order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID


class NoCanonicalForm(Exception):  # noqa: N818  it is an answer, not a fault
    """A value has no canonical bytes; the text says which type, for a person."""


class Stream:
    """Three hashes of one column, fed in pieces of any size."""

    def __init__(self) -> None:
        self.rows = 0
        self._values, self._lengths, self._missing = (hashlib.sha256() for _ in range(3))

    def fixed(self, values: Any, missing: Any = None) -> None:
        """Add a contiguous numeric array; ``missing`` is an array of flags, or nothing is missing."""
        self._values.update(values.view("u1").data)
        self._note(len(values), missing)

    def varying(self, blobs: Sequence[bytes], missing: Any = None) -> None:
        """Add values of different lengths."""
        self._lengths.update(struct.pack(f"<{len(blobs)}q", *map(len, blobs)))
        self._values.update(b"".join(blobs))
        self._note(len(blobs), missing)

    def packed(self, lengths: Any, data: Any, missing: Any = None) -> None:
        """Add values of different lengths that already lie behind one another."""
        self._lengths.update(lengths.tobytes())
        self._values.update(data)
        self._note(len(lengths), missing)

    def _note(self, rows: int, missing: Any) -> None:
        if missing is not None:
            self._missing.update((missing.nonzero()[0] + self.rows).astype("<i8").tobytes())
        self.rows += rows

    def digest(self) -> bytes:
        """The three hashes behind one another."""
        return self._values.digest() + self._lengths.digest() + self._missing.digest()


def framed(*parts: bytes) -> bytes:
    """Parts with their lengths before them, so that no two sequences give the same bytes."""
    return b"".join(struct.pack("<q", len(part)) + part for part in parts)


def named_parts(form: str, parts: Iterable[tuple[bytes, bytes]]) -> str:
    """One hex digest over named digests, in the order given."""
    content = hashlib.sha256(framed(b"mlflow-carbon", form.encode()))
    for name, digest in parts:
        content.update(framed(name, digest))
    return content.hexdigest()


def encoded(value: object) -> bytes:
    """The canonical bytes of one value.

    Raises:
        NoCanonicalForm: the type is not one of those that have one.
    """
    if value is None:
        return b"N"
    encode = _ENCODERS.get(type(value))
    return encode(value) if encode is not None else _other(value)


def text_bytes(text: str) -> bytes:
    """UTF-8; lone surrogates, as files of unknown encoding leave them, are kept apart."""
    return text.encode("utf-8", "surrogatepass")


def _float(value: float) -> bytes:
    return b"N" if value != value else b"f" + struct.pack("<d", value)


def _items(value: Iterable[object]) -> bytes:
    return b"l" + framed(*(encoded(item) for item in value))


def _mapping(value: Mapping[object, object]) -> bytes:
    pairs = sorted((encoded(key), encoded(item)) for key, item in value.items())
    return b"m" + framed(*(part for pair in pairs for part in pair))


def _set(value: Iterable[object]) -> bytes:
    return b"S" + framed(*sorted(encoded(item) for item in value))


def _interval(value: timedelta) -> bytes:
    whole = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    return b"e%d.%03d" % (whole, getattr(value, "nanoseconds", 0))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%d" % value,
    float: _float,
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: lambda value: b"s" + text_bytes(value),
    bytes: lambda value: b"b" + value,
    bytearray: lambda value: b"b" + bytes(value),
    Decimal: lambda value: b"N" if value.is_nan() else b"d" + str(value).encode(),
    datetime: lambda value: b"t" + value.isoformat().encode(),
    date: lambda value: b"a" + value.isoformat().encode(),
    time: lambda value: b"o" + value.isoformat().encode(),
    timedelta: _interval,
    UUID: lambda value: b"u" + value.bytes,
    list: _items,
    tuple: _items,
    dict: _mapping,
    set: _set,
    frozenset: _set,
}


_BY_NAME = {
    "NAType": b"N",
    "NaTType": b"N",
}


def _other(value: object) -> bytes:
    """Types of libraries, known by their names so that nothing has to be imported."""
    root, name = type(value).__module__.partition(".")[0], type(value).__name__
    if root == "pandas" and name in _BY_NAME:
        return _BY_NAME[name]
    if root == "pandas" and name in ("Period", "Interval"):
        return b"p" + str(value).encode()
    if root == "numpy" and name == "datetime64":
        return b"N" if str(value) == "NaT" else b"t" + str(value).encode()
    if root == "numpy" and hasattr(value, "tolist"):
        return encoded(value.tolist())
    for base, encode in _ENCODERS.items():
        if isinstance(value, base):
            return encode(value)
    raise NoCanonicalForm(f"values of type {root}.{name} have no canonical form")
