"""The content of a dataset as one SHA-256, whatever library holds it.

The order of rows and of columns is content: a shuffled table is another dataset. What is larger than
the limit is sampled at evenly spaced rows, and the scope says so; the limit is in bytes, not in
seconds, so that the same data gives the same hash on a slow machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_carbon.datasets import arrays
from mlflow_carbon.datasets.canonical import (
    NoCanonicalForm,
    Stream,
    encoded,
    framed,
    named_parts,
)
from mlflow_carbon.datasets.files import fingerprint_path
from mlflow_carbon.datasets.record import Fingerprint
from mlflow_carbon.datasets.spark import fingerprint_spark, is_spark
from mlflow_carbon.datasets.tables import FORM as TABLE_FORM
from mlflow_carbon.datasets.tables import as_table, table_sha256

PROBE_ROWS = 256
"""Rows hashed before and after, to notice that a table is changed while it is read."""

LEAST_SAMPLE = 1000
"""Rows of a sample, however small the limit."""

_CHANGED = "the data was changed while it was read"

_HOLDERS = ("df", "ds", "features", "features_data", "data")
"""Attributes under which dataset objects of MLflow keep their data, tried in this order."""

_PARTS = {"features": ("features", "targets"), "features_data": ("features_data", "labels_data")}


def fingerprint(dataset: object, *, limit_bytes: int) -> Fingerprint | str:
    """The fingerprint of a dataset, or in a few words why there is none. Never raises for odd data.

    Takes MLflow's dataset objects, frames of pandas, Polars and Spark, Arrow tables, Hugging Face datasets,
    arrays and tensors, dictionaries of those, sparse matrices, lists, files and folders (as ``Path``).
    """
    try:
        return _fingerprint(_held(dataset), limit_bytes)
    except NoCanonicalForm as reason:
        return str(reason)
    except RecursionError:
        return "a value contains itself, or is nested too deeply"
    except MemoryError:
        return "there was not enough memory to read the data"
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        # Data is somebody else's object in somebody else's thread: it may do anything when read.
        return f"the data could not be read: {type(error).__name__}: {str(error)[:200]}"


def content_parts(dataset: object) -> Mapping[str, object]:
    """The data of a dataset by the role of its parts: ``{"": frame}`` or features and targets."""
    data = _held(dataset)
    return data.parts if isinstance(data, _Parts) else {"": data}


@dataclass(frozen=True, slots=True)
class _Parts:
    """Several arrays that are one dataset."""

    parts: Mapping[str, object]


def _held(dataset: object) -> object:
    """The data inside one of MLflow's dataset objects; anything else as it is."""
    if not any(base.__module__.startswith("mlflow.") for base in type(dataset).__mro__):
        return dataset
    for holder in _HOLDERS:
        if getattr(dataset, holder, None) is None:
            continue
        names = _PARTS.get(holder, (holder, "targets"))
        parts = {name: getattr(dataset, name, None) for name in names}
        given = {name: part for name, part in parts.items() if part is not None}
        # The target column of a frame is one of its columns and comes as a name.
        if len(given) == 1 or isinstance(given.get("targets"), str):
            return given[names[0]]
        return _Parts(_flat(given))
    return None


def _flat(parts: Mapping[str, object]) -> Mapping[str, object]:
    """Dictionaries of arrays inside features and targets become parts of their own."""
    flat: dict[str, object] = {}
    for name, part in parts.items():
        if isinstance(part, Mapping):
            flat |= {f"{name}/{key}": value for key, value in part.items()}
        else:
            flat[name] = part
    return flat


def _fingerprint(data: Any, limit_bytes: int) -> Fingerprint | str:
    if data is None:
        return "only a description was logged, the data itself was not seen"
    for of_this_kind, fingerprinted in _KINDS:
        if of_this_kind(data):
            return fingerprinted(data, limit_bytes)
    array = arrays.as_array(data)
    return _of_plain(data, limit_bytes) if array is None else _of_array(array, limit_bytes)


def _of_plain(data: Any, limit_bytes: int) -> Fingerprint | str:
    if isinstance(data, Mapping) and _holds_arrays(data):
        return _of_parts({str(key): value for key, value in data.items()}, limit_bytes)
    if isinstance(data, (list, tuple, dict)):
        return _of_items([data] if isinstance(data, dict) else data, limit_bytes)
    kind = type(data)
    return f"{kind.__module__}.{kind.__qualname__} has no canonical form"


def _of_table(data: Any, limit_bytes: int) -> Fingerprint | str:
    table = as_table(data)
    if table is None:
        return _CHANGED
    probe = _probe(data)
    rows = table.rows
    positions = _positions(rows, table.size_bytes(), limit_bytes)
    digest = table_sha256(table if positions is None else table.some(positions))
    if positions is not None:
        digest = _of_sample(rows, digest)
    if _probe(data) != probe:
        return _CHANGED
    return Fingerprint(sha256=digest, rows=rows, scope=_scope(positions, rows), form=TABLE_FORM)


def _probe(data: Any) -> object:
    """The shape and some of the rows: differs when the table was changed in between, most likely."""
    table = as_table(data)
    if table is None:
        return None
    step = max(1, table.rows // PROBE_ROWS)
    return table.rows, table_sha256(table.some(list(range(0, table.rows, step))))


def _of_array(array: Any, limit_bytes: int) -> Fingerprint:
    rows = len(array) if array.ndim else None
    positions = _positions(rows or 0, int(array.nbytes), limit_bytes)
    sha256 = arrays.array_digest(array if positions is None else array[positions]).hex()
    if positions is not None:
        sha256 = _of_sample(rows or 0, sha256)
    scope = _scope(positions, rows or 0)
    return Fingerprint(sha256=sha256, rows=rows, scope=scope, form="array/1")


def _of_sparse(matrix: Any, limit_bytes: int) -> Fingerprint:
    rows = int(matrix.shape[0])
    positions = _positions(rows, int(matrix.nnz) * (matrix.dtype.itemsize + 8), limit_bytes)
    taken = matrix if positions is None else matrix.tocsr()[positions]
    sha256 = arrays.sparse_digest(taken).hex()
    if positions is not None:
        sha256 = _of_sample(rows, sha256)
    scope = _scope(positions, rows)
    return Fingerprint(sha256=sha256, rows=rows, scope=scope, form="sparse/1")


def _of_parts(parts: Mapping[str, object], limit_bytes: int) -> Fingerprint | str:
    """Named parts in the order of their names: which key was set first means nothing."""
    digests, scopes, rows = [], [], None
    for name, part in sorted(parts.items()):
        print_ = _fingerprint(part, limit_bytes // len(parts))
        if isinstance(print_, str):
            return f"{name}: {print_}"
        rows = print_.rows if rows is None else rows
        digests.append((name.encode(), framed(print_.form.encode(), bytes.fromhex(print_.sha256))))
        if print_.scope != "full":
            scopes.append(print_.scope)
    return Fingerprint(
        sha256=named_parts("parts/1", digests),
        rows=rows,
        scope=scopes[0] if scopes else "full",
        form="parts/1",
    )


def _of_items(items: Sequence[object], limit_bytes: int) -> Fingerprint:
    probed = items[:: max(1, len(items) // PROBE_ROWS)]
    size = len(items) * sum(len(encoded(item)) for item in probed) // max(1, len(probed))
    positions = _positions(len(items), size, limit_bytes)
    taken = items if positions is None else [items[position] for position in positions]
    stream = Stream()
    stream.varying([encoded(item) for item in taken])
    digest = named_parts("list/1", [(str(len(items)).encode(), stream.digest())])
    return Fingerprint(
        sha256=digest, rows=len(items), scope=_scope(positions, len(items)), form="list/1"
    )


def _positions(rows: int, size_bytes: int, limit_bytes: int) -> Any:
    """Evenly spaced row numbers that keep to the limit, or ``None`` when all rows do."""
    if size_bytes <= limit_bytes or rows <= LEAST_SAMPLE:
        return None
    import numpy as np

    taken = max(LEAST_SAMPLE, int(rows * (limit_bytes / size_bytes)))
    return np.arange(taken, dtype=np.int64) * rows // taken


def _of_sample(rows: int, sha256: str) -> str:
    """A sample must not look like a table that holds just these rows."""
    return named_parts("sample/1", [(str(rows).encode(), bytes.fromhex(sha256))])


def _scope(positions: Any, rows: int) -> str:
    return "full" if positions is None else f"sampled: {len(positions)} of {rows} rows"


def _holds_arrays(data: Mapping[Any, object]) -> bool:
    return bool(data) and all(
        arrays.as_array(value) is not None or as_table(value) is not None for value in data.values()
    )


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any, int], Fingerprint | str]], ...] = (
    (lambda data: isinstance(data, Path), fingerprint_path),
    (lambda data: isinstance(data, _Parts), lambda data, limit: _of_parts(data.parts, limit)),
    (lambda data: as_table(data) is not None, _of_table),
    (is_spark, fingerprint_spark),
    (arrays.is_sparse, _of_sparse),
)
"""How each kind of data is told, and read."""
