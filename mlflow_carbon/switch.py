"""Whether this process may measure: asked inside every ``import mlflow``, so it loads next to nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "MLFLOW_CARBON_ENABLED"
OFF = frozenset({"0", "false", "off", "no"})


def is_server_process(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this is a process of ``mlflow server``, which never measures."""
    source = os.environ if environ is None else environ
    return bool(source.get("_MLFLOW_SERVER_FILE_STORE") or source.get("_MLFLOW_SGI_NAME"))


def may_measure(environ: Mapping[str, str] | None = None) -> bool:
    """False in a server process, and where the operator's switch is off: no code turns that back on."""
    source = os.environ if environ is None else environ
    return source.get(VARIABLE, "").strip().lower() not in OFF and not is_server_process(source)
