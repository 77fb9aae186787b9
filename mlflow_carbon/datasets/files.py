"""Files and folders as they lie on disk: nothing outside the folder is read, nothing but regular files."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from mlflow_carbon.datasets.canonical import framed, named_parts, text_bytes
from mlflow_carbon.datasets.record import Fingerprint

BLOCK_BYTES = 2**20
SAMPLES = 64
"""Blocks read of a file over the limit."""


def fingerprint_path(path: Path, limit_bytes: int) -> Fingerprint | str:
    """A file or a folder; a text says why there is no fingerprint.

    A whole file's hash is what ``sha256sum`` prints. A folder's is over the sorted names and hashes of
    its files; a link counts with where it points and is not followed.
    """
    try:
        if path.is_dir():
            return _folder(path, limit_bytes)
        digest, read, size = _file(path, limit_bytes)
    except OSError as error:
        return f"{path.name}: {error.strerror or error}"
    except _Unusable as error:
        return str(error)
    return Fingerprint(sha256=digest, rows=None, scope=_scope(read, size), form="file/1")


class _Unusable(Exception):  # noqa: N818  it is an answer, not a fault
    pass


def _folder(folder: Path, limit_bytes: int) -> Fingerprint:
    files: list[Path] = []
    links: list[Path] = []
    for here, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(here, name)
            if path.is_symlink():
                links.append(path)
            elif path.is_file():
                files.append(path)
    parts: list[tuple[bytes, bytes]] = []
    read = size = 0
    for path in files:
        digest, file_read, file_size = _file(path, max(BLOCK_BYTES, limit_bytes // len(files)))
        parts.append((_name(folder, path), framed(b"file", digest.encode())))
        read, size = read + file_read, size + file_size
    for path in links:
        target = text_bytes(str(path.readlink()))
        parts.append((_name(folder, path), framed(b"link", target)))
    digest = named_parts("folder/1", sorted(parts))
    return Fingerprint(sha256=digest, rows=None, scope=_scope(read, size), form="folder/1")


def _name(folder: Path, path: Path) -> bytes:
    return text_bytes(path.relative_to(folder).as_posix())


def _file(path: Path, limit_bytes: int) -> tuple[str, int, int]:
    """Hex digest, bytes read, size. Opening a pipe would wait for ever, so it is looked at first."""
    before = path.stat()
    if not stat.S_ISREG(before.st_mode):
        raise _Unusable(f"{path.name} is neither a file nor a folder")
    content, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        if before.st_size <= limit_bytes:
            while block := file.read(BLOCK_BYTES):
                content.update(block)
                read += len(block)
        else:
            content.update(framed(b"sampled file/1", str(before.st_size).encode()))
            step = before.st_size // SAMPLES
            length = max(1, min(BLOCK_BYTES, limit_bytes // SAMPLES))
            for sample in range(SAMPLES):
                file.seek(sample * step)
                block = file.read(length)
                content.update(framed(block))
                read += len(block)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _Unusable(f"{path.name} was changed while it was read")
    return content.hexdigest(), read, before.st_size


def _scope(read: int, size: int) -> str:
    return "full" if read >= size else f"sampled: {read} of {size} bytes"
