"""The files shipped with the package, in a wheel and in a checkout alike."""

from __future__ import annotations

import functools
from pathlib import Path

_PACKAGE = Path(__file__).parent


def _shipped(folder: str) -> Path:
    installed = _PACKAGE / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def policies() -> Path:
    """The folder of shipped policies: ``packs/``, ``frameworks/``, ``schema/``."""
    return _shipped("policies")


@functools.cache  # asked once for each finding, of few files
def told(file: str) -> str:
    """The path of a shipped policy from the package on, the same on every machine; any other as it is."""
    shipped = policies()
    path = Path(file)
    return path.relative_to(shipped.parent).as_posix() if path.is_relative_to(shipped) else file


def templates() -> Path:
    """The folder of report, web and init templates."""
    return _shipped("templates")


def carbon_data() -> Path:
    """The folder of emission factor and hardware tables (CSV)."""
    return _PACKAGE / "carbon" / "data"


def examples() -> Path:
    """The folder of runnable examples; a wheel holds those that the demo runs."""
    return _shipped("examples")
