"""Columns of pandas and Arrow tables as streams of canonical bytes.

The same table has the same hash in pandas, Polars, Arrow and Hugging Face as long as the types are the
same: text is text in all of them, and an integer column is one of its width.
"""

from __future__ import annotations

from typing import Any

from mlflow_carbon.datasets.canonical import Stream, encoded, text_bytes

PLAIN = "biufc"
"""NumPy's letters for booleans, integers, floats and complex numbers."""

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def add_series(stream: Stream, series: Any) -> str:
    """Feed one pandas column; returns the kind of the column, which is part of its hash."""
    import numpy as np

    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in PLAIN:
        return add_numbers(stream, series.to_numpy())
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return add_moments(stream, series.to_numpy())
    if hasattr(dtype, "tz"):
        utc = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return add_moments(stream, utc.to_numpy()) + ", UTC"
    if hasattr(dtype, "numpy_dtype") and hasattr(series.array, "_mask"):
        missing = series.isna().to_numpy()
        return add_numbers(stream, series.to_numpy(dtype.numpy_dtype, na_value=0), missing)
    if type(dtype).__name__ in ("StringDtype", "ArrowDtype"):
        return add_arrow(stream, series.array.__arrow_array__())
    return add_objects(stream, series.to_numpy(dtype=object), series.isna().to_numpy())


def add_numbers(stream: Stream, values: Any, missing: Any = None) -> str:
    """Feed a one-dimensional NumPy array of plain numbers.

    A missing float is NaN, so that a column with missing values is the same in pandas and Arrow.
    """
    import numpy as np

    values = contiguous(values)
    if values.dtype.kind in "fc":
        absent = np.isnan(values)
        if missing is not None:
            absent |= missing
        if absent.any():
            values = np.where(absent, values.dtype.type(np.nan), values)
        missing = None
    stream.fixed(values, missing)
    return str(values.dtype.name)


def add_moments(stream: Stream, values: Any) -> str:
    """Feed moments or durations as whole seconds and nanoseconds.

    Not in the unit they come in: pandas 2 counts nanoseconds where pandas 3 counts microseconds.
    """
    import numpy as np

    letter, unit = values.dtype.kind, np.datetime_data(values.dtype)[0]
    if values.dtype != f"{letter}8[{unit}]" or unit not in _PER_SECOND:
        unit = unit if unit in _PER_SECOND else "s"
        values = values.astype(f"{letter}8[{unit}]")
    counts, per_second = contiguous(values).view("<i8"), _PER_SECOND[unit]
    pairs = np.empty((len(counts), 2), dtype="<i8")
    np.floor_divide(counts, per_second, out=pairs[:, 0])
    pairs[:, 1] = (counts - pairs[:, 0] * per_second) * (_PER_SECOND["ns"] // per_second)
    pairs[np.isnat(values)] = np.iinfo(np.int64).min
    stream.fixed(pairs.reshape(-1))
    return "moment" if letter == "M" else "duration"


def add_objects(stream: Stream, values: Any, missing: Any) -> str:
    """Feed Python objects: ``text`` when all of them are, otherwise ``mixed`` with a type for each."""
    items = values.tolist()
    texts = ["" if absent else item for item, absent in zip(items, missing.tolist(), strict=True)]
    if all(type(item) is str for item in texts):
        stream.varying([text_bytes(item) for item in texts], missing)
        return "text"
    stream.varying(
        [
            b"N" if absent else encoded(item)
            for item, absent in zip(items, missing.tolist(), strict=True)
        ]
    )
    return "mixed"


def add_arrow(stream: Stream, column: Any) -> str:
    """Feed one Arrow column or a chunk of it."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return add_arrow(stream, column.cast(kind.value_type))
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    if _is_plain(kind):
        filled = column.fill_null(False if pa.types.is_boolean(kind) else 0)
        return add_numbers(stream, filled.to_numpy(zero_copy_only=False), missing)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        letter = "M" if pa.types.is_timestamp(kind) else "m"
        least = int(np.iinfo(np.int64).min)  # what NumPy and pandas write for "not a time"
        filled = column.cast(pa.int64()).fill_null(least).to_numpy(zero_copy_only=False)
        named = add_moments(stream, filled.view(f"{letter}8[{kind.unit}]"))
        return f"{named}, UTC" if getattr(kind, "tz", None) else named
    if _is_text(kind) or pa.types.is_null(kind):
        _add_arrow_text(stream, column.cast(pa.large_string()), missing)
        return "text"
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return add_objects(stream, values, np.zeros(len(values), bool) if missing is None else missing)


def contiguous(values: Any) -> Any:
    """One piece of memory, little-endian."""
    import numpy as np

    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _add_arrow_text(stream: Stream, column: Any, missing: Any) -> None:
    import numpy as np
    import pyarrow as pa

    filled = column.fill_null("")
    chunks = filled.chunks if isinstance(filled, pa.ChunkedArray) else [filled]
    array = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
    _, offsets, data = array.buffers()
    if not len(array):
        return stream.varying([])
    ends = np.frombuffer(offsets, "<i8")[array.offset : array.offset + len(array) + 1]
    held = memoryview(data if data is not None else b"")[int(ends[0]) : int(ends[-1])]
    return stream.packed(np.diff(ends), held, missing)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    views = getattr(pa.types, "is_string_view", None)  # pyarrow >= 16
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or (views and views(kind))
    )
