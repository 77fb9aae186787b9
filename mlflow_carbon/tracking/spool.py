"""One file per run outside the working directory: what a crash must not take with it.

JSON lines, only appended to, each folded over the ones before. The file's lock
says who measures the run on this host; a file without a lock is a session
whose process died. Once the run has everything, the file is removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow_carbon.errors import OutputError
from mlflow_carbon.tracking.facts import Json

SUFFIX = ".run"
SIZE_LIMIT_BYTES = 8 * 2**20
"""Then the file starts over with a summary: nine hours at a reading a second."""

SYNC_PERIOD_S = 7.5
"""At least this between two calls of fdatasync (4 ms each), and at most 10 s: a power cut takes no more."""


_encode = json.JSONEncoder(separators=(",", ":")).encode


class BusyError(Exception):
    """Another process measures this run on this host."""


class Spool:
    """The open, locked file of one run."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Take over an open, locked descriptor."""
        self._descriptor = descriptor
        self.path = path
        self._synced_s = float("-inf")
        self.left: Path | None = None
        """What a process that died left under this name; it was set aside under another."""

    def append(self, line: Json, *, now_s: float) -> None:
        """Add one line; ``now_s`` is the monotonic clock.

        Raises:
            OSError: no space, no quota.
        """
        data = _encode(line).encode() + b"\n"
        if (written := os.write(self._descriptor, data)) < len(data):
            # The disk is full: take the torn line back, so that a later one is not lost with it.
            os.ftruncate(self._descriptor, self.size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if now_s - self._synced_s >= SYNC_PERIOD_S:
            self._synced_s = now_s
            os.fdatasync(self._descriptor)

    @property
    def full(self) -> bool:
        """Whether it is time to start over."""
        return self.size > SIZE_LIMIT_BYTES

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._descriptor).st_size

    def restart(self, line: Json, *, now_s: float) -> None:
        """Start over with one line that holds everything so far."""
        os.ftruncate(self._descriptor, 0)
        self.append(line, now_s=now_s)

    def lines(self) -> list[Json]:
        """What was written so far; a torn last line is left out."""
        return list(_parsed(os.pread(self._descriptor, self.size, 0)))

    def rename(self, stem: str) -> None:
        """Move the file aside under another name; the lock stays."""
        self.path = self.path.rename(self.path.with_name(file_name(stem)))

    def remove(self) -> None:
        """The run has everything: remove the file, then let go of it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file. In a forked child this leaves the parent's lock as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _parsed(data: bytes) -> Iterator[Json]:
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def folder(preferred: Path) -> Path:
    """The first of the preferred folder and a private one for temporary files that can be written.

    Raises:
        OutputError: neither can; names both.
    """
    fallback = _fallback()
    first = _why_not(preferred)
    if not first:
        return preferred
    second = _why_not(fallback)
    if not second:
        return fallback
    raise OutputError(
        f"no folder for the spool ({preferred}: {first}; {fallback}: {second})."
        " Set MLFLOW_CARBON_SPOOL_DIR to one that can be written."
    )


def used_folders(preferred: Path) -> list[Path]:
    """Where records of this user may lie: a program may have been able to write what we cannot, and the other way round."""
    fallback = _fallback()
    with suppress(OSError):
        owner = fallback.lstat()
        if stat.S_ISDIR(owner.st_mode) and owner.st_uid == os.getuid() and fallback != preferred:
            return [preferred, fallback]
    return [preferred]


def _fallback() -> Path:
    return temporary_folder() / f"mlflow-carbon-{os.getuid()}"


def temporary_folder() -> Path:
    """Where temporary files go; in a container whose file system is read-only, the shared memory."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/dev/shm")  # noqa: S108 (what is put there is for this user only)


def _why_not(path: Path) -> str:
    """Why the folder cannot be used; "" when it can. It is made, for this user only, if need be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.getuid():
        return "belongs to somebody else"
    return "" if os.access(path, os.W_OK | os.X_OK) else "is not writable"


def file_name(run_id: str) -> str:
    """A safe file name for any run id, and this host's own: a home folder may be shared by several."""
    safe = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id)
    stem = run_id if safe else hashlib.sha256(run_id.encode(errors="replace")).hexdigest()
    return f"{stem}@{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}{SUFFIX}"


def claim(where: Path, run_id: str) -> Spool:
    """Open and lock the file of a run; it is empty.

    Raises:
        BusyError: another process holds it.
        OSError: it cannot be written.
    """
    left: Path | None = None
    while True:
        spool = _locked(where / file_name(run_id), os.O_CREAT)
        if not spool.size:
            spool.left = left
            return spool
        spool.rename(f"{run_id[:32]}-left-{time.time_ns()}")
        left = spool.path
        spool.close()


def orphans(where: Path) -> Iterator[Spool]:
    """The files whose process is gone, each locked while the caller works on it."""
    for path in sorted(where.glob("*" + SUFFIX)) if where.is_dir() else []:
        with suppress(BusyError, FileNotFoundError), orphan(path) as spool:
            yield spool


@contextmanager
def orphan(path: Path) -> Iterator[Spool]:
    """One such file.

    Raises:
        BusyError: its process is alive, or another one is delivering it.
        FileNotFoundError: it has been delivered.
    """
    spool = _locked(path, 0)
    try:
        yield spool
    finally:
        spool.close()


def in_progress(where: Path, run_id: str, *, besides: Path) -> bool:
    """Whether a process of this host works on the run, in a file other than ``besides``."""
    path = where / file_name(run_id)
    if path == besides:
        return False
    try:
        with orphan(path):
            return False
    except FileNotFoundError:
        return False
    except BusyError:
        return True


def _locked(path: Path, create: int) -> Spool:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | create
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return Spool(descriptor, path)
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(str(path)) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed by its holder between our open and our lock


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
