"""Where the user's program ends and we begin: nothing of ours may raise into it.

This is the one place that catches everything. What goes wrong is logged once
per place and process, and noted so that the run's evidence can say so.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import CodeType, TracebackType

_log = logging.getLogger("mlflow_carbon")
_told: set[str] = set()
_inside = threading.local()


class harmless:  # noqa: N801 (reads as a statement: with harmless("..."))
    """Keep every exception of the block from the user's program; interrupts and exits pass.

    So does what one of the user's signal handlers raised (a time limit by SIGALRM): it is not ours.

    ``failed`` tells afterwards, in a few words, what went wrong; "" if nothing did.
    """

    def __init__(self, what: str) -> None:
        """``what`` we were doing, as it completes "mlflow-carbon could not ..."."""
        self._what = what
        self.failed = ""

    def __enter__(self) -> harmless:
        """Enter the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Swallow what is an ``Exception``; say so once."""
        if not isinstance(error, Exception) or _raised_by_a_signal_handler(traceback):
            return False
        self.failed = f"could not {self._what}: {describe(error)}"
        level = logging.DEBUG if self._what in _told else logging.WARNING
        _told.add(self._what)
        stop = "" if self.failed.endswith((".", "?", "!")) else "."
        _log.log(level, "mlflow-carbon %s%s Your run is not affected.", self.failed, stop)
        _log.debug("mlflow-carbon could not %s", self._what, exc_info=error)
        return True


def describe(error: Exception) -> str:
    """Class and first line of the message, at most 200 characters; survives a hostile ``__str__``."""
    text = ""
    with _Quiet():
        text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def _raised_by_a_signal_handler(traceback: TracebackType | None) -> bool:
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _code(handler: object) -> CodeType | None:
    handler = getattr(handler, "func", handler)  # functools.partial
    handler = getattr(handler, "__func__", handler)  # a method
    if not hasattr(handler, "__code__") and callable(handler):
        handler = type(handler).__call__
    return getattr(handler, "__code__", None)


class _Quiet:
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, Exception)


class outermost:  # noqa: N801 (reads as a statement: with outermost() as first)
    """True in the outermost of nested blocks of one thread: our hooks never react to our own calls."""

    def __enter__(self) -> bool:
        """Whether this block is the outermost."""
        self._first = not getattr(_inside, "busy", False)
        _inside.busy = True
        return self._first

    def __exit__(self, *_: object) -> None:
        """Leave; the outermost block opens the way again."""
        if self._first:
            _inside.busy = False
