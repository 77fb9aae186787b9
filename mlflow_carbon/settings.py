"""Every setting, read in one place: the only module that touches the process environment.

Standard library only: the plugin's entry point reads it inside ``import mlflow``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from mlflow_carbon.errors import SettingsError

ENV_PREFIX = "MLFLOW_CARBON_"

_TRUE, _FALSE = {"1", "true", "on", "yes"}, {"0", "false", "off", "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user decided. Each field is set by ``MLFLOW_CARBON_<FIELD>``; ``None`` means not set."""

    enabled: bool = True
    """Measure runs of this process."""
    region: str | None = None
    """ISO 3166 code (``FR``, ``US-CA``), eGRID subregion or ``provider/region`` (``aws/eu-west-3``)."""
    pue: float | None = None
    """Power usage effectiveness of the site, >= 1; recorded beside the figures, never folded in."""
    sample_period_s: float = 1.0
    """Between two readings of the counters."""
    publish_period_s: float = 60.0
    """Between two ``log_batch`` calls per run while it runs."""
    spool_dir: Path | None = None
    """Where ticks are kept until MLflow has them; default: the user's state folder."""
    dataset_cards: Path | None = None
    """Folder searched for dataset cards (``*.dataset.yaml``) besides the script's own."""
    hash_limit_mb: float = 1024.0
    """Datasets larger than this are fingerprinted by a labelled sample."""
    project: str | None = None
    phase: str | None = None
    intended_use: str | None = None
    owner: str | None = None
    gate_policy: str | None = None
    """Pack name or file whose ``gate`` section protects the registry; not set: no gate."""


def _converted(name: str, kind: str, text: str) -> object:
    if kind == "bool":
        if text.strip().lower() in _TRUE | _FALSE:
            return text.strip().lower() in _TRUE
        raise SettingsError(f"{name}={text!r} is neither true nor false. Set it to true or false.")
    if kind.startswith("float"):
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"{name}={text!r} is not a number.") from None
        least = 1.0 if name.endswith("_PUE") else 0.0
        if not least <= value < float("inf"):
            raise SettingsError(f"{name}={text!r} must be a finite number, at least {least:g}.")
        return value
    return Path(text).expanduser() if kind.startswith("Path") else text


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; an empty variable counts as not set.

    Raises:
        SettingsError: a value cannot be used; names the variable and what it should be.
    """
    source = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for field in fields(Settings):
        name = ENV_PREFIX + field.name.upper()
        if text := source.get(name, ""):
            values[field.name] = _converted(name, str(field.type), text)
    return Settings(**values)  # type: ignore[arg-type]


def gate_policy(environ: Mapping[str, str] | None = None) -> str | None:
    """The gate's policy alone: readable even when another setting is broken, which must not open the gate."""
    source = os.environ if environ is None else environ
    return source.get(ENV_PREFIX + "GATE_POLICY") or None


def is_server_process(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this is a process of ``mlflow server``, which never measures."""
    source = os.environ if environ is None else environ
    return bool(source.get("_MLFLOW_SERVER_FILE_STORE") or source.get("_MLFLOW_SGI_NAME"))


def may_measure(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process may measure at all; cheap, asked inside ``import mlflow``.

    ``MLFLOW_CARBON_ENABLED=false`` is the operator's switch: no code turns it back on.
    """
    source = os.environ if environ is None else environ
    switched_off = source.get(ENV_PREFIX + "ENABLED", "").strip().lower() in _FALSE
    return not switched_off and not is_server_process(source)


def visible_gpus(environ: Mapping[str, str] | None = None) -> str | None:
    """The GPUs that CUDA shows to this process (``CUDA_VISIBLE_DEVICES``); ``None``: all, empty: none."""
    source = os.environ if environ is None else environ
    return source.get("CUDA_VISIBLE_DEVICES")


def inherited_run_id(environ: Mapping[str, str] | None = None) -> str | None:
    """The run that a parent process (``mlflow run``, a launcher) handed down, if any."""
    source = os.environ if environ is None else environ
    return source.get("MLFLOW_RUN_ID") or None


REGION_HINTS = (
    "TZ",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "ECS_CONTAINER_METADATA_URI_V4",
    "SM_TRAINING_ENV",
    "CLOUD_ML_REGION",
    "GOOGLE_CLOUD_REGION",
    "CLOUDSDK_COMPUTE_REGION",
    "REGION_NAME",
)


def region_hints(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The variables that can say where this machine is; see ``carbon/region.py`` for what they are worth."""
    source = os.environ if environ is None else environ
    return {name: source[name] for name in REGION_HINTS if source.get(name)}


def spool_dir(settings: Settings, environ: Mapping[str, str] | None = None) -> Path:
    """The folder for spool files: the setting, else the user's state folder, else a private temporary one."""
    if settings.spool_dir is not None:
        return settings.spool_dir
    source = os.environ if environ is None else environ
    if state := source.get("XDG_STATE_HOME", ""):
        return Path(state) / "mlflow-carbon"
    try:
        return Path.home() / ".local" / "state" / "mlflow-carbon"
    except RuntimeError:  # no HOME and no passwd entry: common in containers
        return Path(tempfile.gettempdir()) / f"mlflow-carbon-{os.getuid()}"


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment for a child, with every MLflow and mlflow-carbon setting left out
    but those given.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return kept | changes
