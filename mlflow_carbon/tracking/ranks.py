"""Which of several processes measures a run: exactly one on each host."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

SOURCE_TYPE = "mlflow.source.type"
PARENT_RUN = "mlflow.parentRunId"


class Role(str, Enum):
    """What a process is to a run."""

    LEADER = "leader"
    """Holds the lock on the spool, and measures."""
    FOLLOWER = "follower"
    """Another process of this host measures this run."""
    LAUNCHER = "launcher"
    """``mlflow run``: creates the run and leaves the work to a child process."""


def is_launcher(tags: Mapping[str, str]) -> bool:
    """Whether a run with these tags at creation is created for a child process to work on."""
    return tags.get(SOURCE_TYPE) == "PROJECT"
