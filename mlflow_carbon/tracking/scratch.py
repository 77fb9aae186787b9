"""Folders for files on their way into a run's artifacts; one that a killed process left goes with a later one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress

from mlflow_carbon.tracking.spool import temporary_folder

_PREFIX = "mlflow-carbon-send-"
_STALE_S = 86_400.0
"""A file is sent within minutes: after a day nobody does any more."""


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder of this user only, removed at the end of the block."""
    return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=temporary_folder())


def remove_left(now_s: float) -> None:
    """Remove those of this user that are a day old; ``now_s`` compares with the files' times."""
    for path in temporary_folder().glob(_PREFIX + "*"):
        with suppress(OSError):
            found = path.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if ours and now_s - found.st_mtime > _STALE_S:
                shutil.rmtree(path)
