"""Tables of every library behind one small interface: how many rows, how large, some rows, all columns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlflow_carbon.datasets.canonical import Stream, encoded, framed, named_parts
from mlflow_carbon.datasets.columns import add_arrow, add_series

FORM = "table/1"
PIECE_ROWS = 10_000
"""Rows of a memory-mapped table read at a time."""

ColumnDigest = tuple[object, str, bytes]


@dataclass(frozen=True, slots=True)
class PandasTable:
    """A pandas frame. Its index counts as content when it is named or not made of integers: a plain
    row number is an accident of how the frame was made, a date is data.
    """

    frame: Any

    @property
    def rows(self) -> int:
        return len(self.frame)

    def size_bytes(self) -> int:
        """Of the content, from the size of some of the values where they are Python objects."""
        total = 0
        for position in range(self.frame.shape[1]):
            column = self.frame.iloc[:, position]
            total += int(column.memory_usage(index=False, deep=False))
            if column.dtype == object:
                step = max(1, len(column) // 1000)
                some = column.iloc[::step]
                total += sum(map(sys.getsizeof, some)) * step
        return total

    def some(self, positions: Any) -> PandasTable:
        return PandasTable(self.frame.iloc[positions])

    def columns(self) -> Iterator[ColumnDigest]:
        index = self.frame.index
        if _is_content(index):
            for level in range(index.nlevels):
                values = index.get_level_values(level).to_series()
                yield _column(("index", index.names[level]), values, add_series)
        for position, name in enumerate(self.frame.columns):
            yield _column(name, self.frame.iloc[:, position], add_series)


@dataclass(frozen=True, slots=True)
class ArrowTable:
    """An Arrow table; Polars frames come as one."""

    table: Any

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def size_bytes(self) -> int:
        return int(self.table.nbytes)

    def some(self, positions: Any) -> ArrowTable:
        return ArrowTable(self.table.take(positions))

    def columns(self) -> Iterator[ColumnDigest]:
        for name, column in zip(self.table.column_names, self.table.columns, strict=True):
            yield _column(name, column, add_arrow)


@dataclass(frozen=True, slots=True)
class HuggingFaceTable:
    """A Hugging Face dataset, which may be larger than memory: read in pieces, in its own order."""

    dataset: Any

    @property
    def rows(self) -> int:
        return int(self.dataset.num_rows)

    def size_bytes(self) -> int:
        held = self.dataset.data
        return int(held.nbytes * self.rows / max(1, held.num_rows))

    def some(self, positions: Any) -> HuggingFaceTable:
        return HuggingFaceTable(self.dataset.select(positions))

    def columns(self) -> Iterator[ColumnDigest]:
        names = list(self.dataset.column_names)
        streams, kinds = [Stream() for _ in names], [""] * len(names)
        for piece in self.dataset.with_format("arrow").iter(batch_size=PIECE_ROWS):
            for position, name in enumerate(names):
                kinds[position] = add_arrow(streams[position], piece[name])
        for name, kind, stream in zip(names, kinds, streams, strict=True):
            yield name, kind, stream.digest()


Table = PandasTable | ArrowTable | HuggingFaceTable

MAX_CONVERTED_BYTES = 2**27
"""Of a table that is turned into a pandas frame: that takes several times its size in memory."""


def as_table(data: Any) -> Table | None:
    """The table behind an object of a known library, or nothing."""
    root, name = type(data).__module__.partition(".")[0], type(data).__name__
    if root == "pandas" and name in ("DataFrame", "Series"):
        return PandasTable(_native(data.to_frame() if name == "Series" else data))
    if root == "polars" and name in ("DataFrame", "Series"):
        return ArrowTable((data.to_frame() if name == "Series" else data).to_arrow())
    if root == "pyarrow" and name == "Table":
        return ArrowTable(data)
    if root == "pyarrow" and name == "RecordBatch":
        return ArrowTable(_of_batch(data))
    if root == "datasets" and name == "Dataset":
        return HuggingFaceTable(data)
    return None


def as_frame(table: Table) -> Any | None:
    """The table as a pandas frame, or nothing when that would take too much memory."""
    if isinstance(table, PandasTable):
        return table.frame
    if table.size_bytes() > MAX_CONVERTED_BYTES:
        return None
    held = table.table if isinstance(table, ArrowTable) else table.dataset
    return held.to_pandas()


def table_sha256(table: Table) -> str:
    """Over names, types and content of the columns, in their order, and the rows in theirs."""
    parts = [
        (encoded(name), framed(kind.encode(), digest)) for name, kind, digest in table.columns()
    ]
    return named_parts(FORM, [(b"rows", str(table.rows).encode()), *parts])


def _column(name: object, column: Any, add: Any) -> ColumnDigest:
    stream = Stream()
    kind = add(stream, column)
    return name, kind, stream.digest()


def _is_content(index: Any) -> bool:
    named = any(name is not None for name in index.names)
    return named or index.nlevels > 1 or getattr(index.dtype, "kind", "O") not in "iu"


def _native(frame: Any) -> Any:
    """The frame with its columns in the machine's byte order: pandas 2 cannot pick rows of any other."""
    foreign = {
        position: dtype.newbyteorder("=")
        for position, dtype in enumerate(frame.dtypes)
        if getattr(dtype, "byteorder", "=") not in ("=", "|")
    }
    if not foreign:
        return frame
    native = frame.copy(deep=False)
    for position, dtype in foreign.items():
        native.isetitem(position, frame.iloc[:, position].astype(dtype))
    return native


def _of_batch(batch: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])
