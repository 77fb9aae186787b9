"""Rows as 64-bit numbers: enough to count duplicates and to see rows of one table in another.

The numbers never leave the process; a record holds counts only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_carbon.datasets.arrays import as_array
from mlflow_carbon.datasets.tables import Table, as_frame, as_table

KEPT = 100_000
"""Rows remembered of one dataset (0.8 MB). Of a larger one those with the smallest numbers are kept: the
same choice in every table, so that shares can still be compared."""

MAX_BYTES = 2**30
"""Of an array or table that is hashed by rows."""


@dataclass(frozen=True, slots=True)
class RowHashes:
    """What is remembered of the rows of one dataset."""

    kind: str
    """Columns or width: only rows of the same kind can be the same."""
    rows: int
    distinct: int
    kept: Any
    """Sorted distinct row numbers, the smallest of them."""
    counts: Any
    """How often each of them occurs."""
    below: int
    """Every row number up to this one is among ``kept``."""

    @property
    def duplicates(self) -> int:
        """Rows that occur earlier in the same dataset."""
        return self.rows - self.distinct


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of the compared rows of one dataset are in another one as well."""

    shared: int
    compared: int
    """Rows looked at: all of them, or those of the shared sample."""

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.shared / self.compared if self.compared else 0.0


def row_hashes(data: object) -> RowHashes | str:
    """Of a frame, table or array; a text says why not."""
    import numpy as np

    try:
        kind, numbers = _numbers(data)
    except (TypeError, ValueError, MemoryError, OSError, NotImplementedError) as error:
        return f"rows cannot be compared: {type(error).__name__}"
    if numbers is None:
        return kind
    kept, counts = np.unique(numbers, return_counts=True)
    distinct = len(kept)
    below = int(np.iinfo(np.uint64).max)
    if distinct > KEPT:
        kept, counts = kept[:KEPT].copy(), counts[:KEPT].copy()
        below = int(kept[-1])
    return RowHashes(kind, len(numbers), distinct, kept, counts, below)


def overlap(used_for_training: RowHashes, used_for_testing: RowHashes) -> Overlap | str:
    """How many rows of the second dataset are in the first; a text says why that cannot be told."""
    import numpy as np

    if used_for_training.kind != used_for_testing.kind:
        return "their columns differ"
    below = np.uint64(min(used_for_training.below, used_for_testing.below))
    seen = used_for_testing.kept <= below
    known = np.isin(used_for_testing.kept, used_for_training.kept, assume_unique=True)
    counts = used_for_testing.counts
    return Overlap(shared=int(counts[seen & known].sum()), compared=int(counts[seen].sum()))


def _numbers(data: object) -> tuple[str, Any]:
    """Kind and row numbers; for what has no rows a reason and ``None``."""
    table = as_table(data)
    if table is not None:
        return _of_table(table)
    array = as_array(data)
    if array is None or array.ndim == 0:
        return "it has no rows to compare", None
    if array.nbytes > MAX_BYTES:
        return "it is too large to compare rows", None
    flat = array.reshape(len(array), -1)
    if flat.dtype.kind in "biuf":
        return f"array of {flat.shape[1]}", _of_array(flat)
    import pandas as pd

    hashed = pd.util.hash_pandas_object(pd.DataFrame(flat), index=False)
    return f"array of {flat.shape[1]}", hashed.to_numpy()


def _of_table(table: Table) -> tuple[str, Any]:
    import pandas as pd

    frame = as_frame(table) if table.size_bytes() <= MAX_BYTES else None
    if frame is None:
        return "it is too large to compare rows", None
    if not frame.shape[1]:
        return "it has no columns to compare", None
    names = ", ".join(map(repr, frame.columns))
    return f"table of {names}", pd.util.hash_pandas_object(frame, index=False).to_numpy()


def _of_array(flat: Any) -> Any:
    """One number per row: every cell mixed with its place, then added up. Cells count as float64."""
    import numpy as np

    total = np.zeros(len(flat), dtype=np.uint64)
    for place in range(flat.shape[1]):
        cells = np.ascontiguousarray(flat[:, place], dtype=np.float64) + 0.0  # -0.0 is 0.0
        word = cells.view(np.uint64) ^ np.uint64((place * 0x9E3779B97F4A7C15) % 2**64)
        # The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit depends on every other.
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        total += word ^ (word >> np.uint64(31))
    return total
