"""What measuring itself costs: the processor time of our own threads and of our work in the user's calls."""

from __future__ import annotations

import threading
import time

_of_thread: dict[int, float] = {}
"""Seconds by thread; each thread writes its own, so there is no lock that a fork could leave held."""
_here = threading.local()


def _add(seconds: float) -> None:
    ident = threading.get_ident()
    _of_thread[ident] = _of_thread.get(ident, 0.0) + max(0.0, seconds)


def count() -> None:
    """Called now and then by a thread that does nothing but our work: add what it has used since."""
    now_s = time.thread_time()
    _add(now_s - getattr(_here, "counted_s", 0.0))
    _here.counted_s = now_s


class counted:  # noqa: N801 (reads as a statement: with counted())
    """Add what the block uses: our work in a thread of the user's. Blocks inside it are part of it."""

    def __enter__(self) -> counted:
        """Enter the block."""
        self._outer = getattr(_here, "counted_s", None)
        if self._outer is None:
            _here.counted_s = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it."""
        if self._outer is None:
            count()
            del _here.counted_s


def cpu_s() -> float:
    """Seconds of processor time counted in this process so far; only differences mean something."""
    if hasattr(_here, "counted_s"):
        count()
    return sum(list(_of_thread.values()))


def cpu_before_s() -> float:
    """The same without what the block in hand has used: it is part of what begins in it."""
    return sum(list(_of_thread.values()))
