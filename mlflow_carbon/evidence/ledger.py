"""An append-only file of decisions in which every line seals the one before it.

One JSON object per line (RFC 8785 form), each with the SHA-256 of the line before and its own.
Changing, removing or moving a line breaks the chain from there on. Cutting off the end does not:
keep the last line's hash (``head``) elsewhere to notice that.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import rfc8785

from mlflow_carbon.errors import OutputError, StoreError

GENESIS = "0" * 64
"""What the first line names as the one before it."""
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: its place in the chain (from 1), when it was written, and what it says."""

    number: int
    at: datetime
    said: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True)
class Chain:
    """The entries that are sound, and every fault found, as sentences with line numbers."""

    entries: tuple[Entry, ...]
    faults: tuple[str, ...]

    @property
    def head(self) -> str:
        """The hash of the last sound entry."""
        return self.entries[-1].sha256 if self.entries else GENESIS


class Ledger:
    """A ledger file that several processes of one host may append to."""

    def __init__(self, path: Path) -> None:
        """Nothing is created before the first entry."""
        self.path = path

    def append(self, said: Mapping[str, Any], at: datetime) -> Entry:
        """Add an entry and wait until the disk has it.

        Raises:
            OutputError: it could not be written; the file is as it was.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o640)
            try:
                with _locked(descriptor):
                    return _append(descriptor, said, at)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise OutputError(
                f"{self.path}: the ledger cannot be written ({error.strerror}). Make room or fix its "
                "permissions; nothing is promoted without an entry."
            ) from error

    def read(self) -> Chain:
        """Every entry, checked; an absent file is an empty ledger.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file, _locked(file.fileno(), shared=True):
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return Chain((), ())
        except OSError as error:
            raise StoreError(f"{self.path}: the ledger cannot be read: {error.strerror}.") from None
        entries: list[Entry] = []
        faults: list[str] = []
        previous = GENESIS
        for number, line in enumerate(lines, 1):
            if not line and number == len(lines):
                break
            entry = _sound(line)
            if entry is None:
                faults.append(f"line {number} is damaged or was changed")
                continue
            record, said = entry
            if record["previous"] != previous or record["number"] != len(entries) + 1:
                faults.append(f"line {number} does not follow the line before it")
            previous = record["sha256"]
            entries.append(
                Entry(record["number"], datetime.fromisoformat(record["at"]), said, previous)
            )
        return Chain(tuple(entries), tuple(faults))


def _append(descriptor: int, said: Mapping[str, Any], at: datetime) -> Entry:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    last, whole = _last(descriptor, size)
    record: dict[str, Any] = {
        "number": last["number"] + 1 if last else 1,
        "at": at.isoformat(timespec="microseconds"),
        "previous": last["sha256"] if last else GENESIS,
        "said": dict(said),
    }
    record["sha256"] = _hash(record)
    # A line torn by a crash stays where it is, as a fault; the chain goes on from the last sound one.
    data = (b"" if whole else b"\n") + rfc8785.dumps(record) + b"\n"
    try:
        _write(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):  # what matters is why it could not be written
            os.ftruncate(descriptor, size)
        raise
    return Entry(record["number"], at, said, record["sha256"])


def _write(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _last(descriptor: int, size: int) -> tuple[dict[str, Any] | None, bool]:
    """The last sound record, and whether the file ends with a whole line."""
    start, data = size, b""
    while start > 0:
        step = min(_TAIL_BYTES, start)
        start -= step
        data = os.pread(descriptor, step, start) + data
        lines = data.split(b"\n")
        for line in reversed(lines[1:] if start else lines):
            if found := _sound(line):
                return found[0], data.endswith(b"\n")
    return None, not data or data.endswith(b"\n")


def _sound(line: bytes) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
    try:
        record = json.loads(line)
        claimed = record["sha256"]
        rest = {key: record[key] for key in ("number", "at", "previous", "said")}
        if claimed != _hash(rest) or len(record) != len(rest) + 1:
            return None
        datetime.fromisoformat(record["at"])
    except (ValueError, TypeError, KeyError, RecursionError, rfc8785.CanonicalizationError):
        return None
    return record, record["said"]


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(record))).hexdigest()


@contextmanager
def _locked(descriptor: int, *, shared: bool = False) -> Iterator[None]:
    import fcntl  # POSIX only, like the servers that keep a ledger

    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
