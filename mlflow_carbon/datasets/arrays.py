"""Arrays, tensors and sparse matrices in canonical bytes."""

from __future__ import annotations

import hashlib
from typing import Any

from mlflow_carbon.datasets.canonical import NoCanonicalForm, Stream, encoded, framed
from mlflow_carbon.datasets.columns import PLAIN, add_moments, add_numbers, contiguous

PIECE_BYTES = 8 * 2**20
"""Of an array that are brought into one piece of memory at a time."""


def as_array(data: Any) -> Any | None:
    """The NumPy array of an array or tensor of any library, or nothing."""
    root, name = type(data).__module__.partition(".")[0], type(data).__name__
    if root == "numpy" and name in ("ndarray", "MaskedArray", "memmap"):
        return data
    if root in ("tensorflow", "jax", "jaxlib") and hasattr(data, "__array__"):
        return data.__array__()
    return None


def is_sparse(data: Any) -> bool:
    """Whether it is a sparse matrix of SciPy."""
    return type(data).__module__.startswith("scipy.sparse") and hasattr(data, "tocsr")


def array_digest(array: Any) -> bytes:
    """Over type, shape and values in row order."""
    import numpy as np

    content = hashlib.sha256(framed(str(array.shape).encode()))
    if isinstance(array, np.ma.MaskedArray):
        flags = np.ma.getmaskarray(array)
        content.update(b"masked" + contiguous(flags).tobytes())
        array = array.filled(0)
    if array.dtype.names:
        for name in array.dtype.names:
            content.update(framed(name.encode(), array_digest(array[name])))
        return content.digest()
    stream, kind = Stream(), str(array.dtype.name)
    for piece in _pieces(array):
        kind = _add(stream, piece)
    content.update(framed(kind.encode(), stream.digest()))
    return content.digest()


def sparse_digest(matrix: Any) -> bytes:
    """Over type, shape and the stored values; explicit zeros and repeated entries do not matter."""
    plain = matrix.tocsr(copy=True)
    plain.sum_duplicates()
    plain.eliminate_zeros()
    plain.sort_indices()
    parts = (plain.indptr.astype("<i8"), plain.indices.astype("<i8"), plain.data)
    shape = str(tuple(plain.shape)).encode()
    return hashlib.sha256(framed(shape, *(array_digest(part) for part in parts))).digest()


def _pieces(array: Any) -> Any:
    """Flat parts of an array in row order, each small enough to copy."""
    if array.ndim == 0:
        yield array.reshape(1)
        return
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    step = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield array[start : start + step].reshape(-1)


def _add(stream: Stream, piece: Any) -> str:
    if piece.dtype.kind in PLAIN:
        return add_numbers(stream, piece)
    if piece.dtype.kind in "mM":
        return add_moments(stream, piece)
    if piece.dtype.kind in "OUS":
        values = piece.astype(object)
        # One type per value: a piece that happens to hold only text must not look different.
        stream.varying([encoded(value) for value in values.tolist()])
        return "mixed"
    raise NoCanonicalForm(f"arrays of type {piece.dtype.name} have no canonical form")
