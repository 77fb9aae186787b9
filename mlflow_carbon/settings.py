"""Every setting, read in one place: with ``switch.py`` and ``surroundings.py`` all that touches the environment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon.errors import SettingsError
from mlflow_carbon.settings_files import SettingsFile, nearest, suggestion
from mlflow_carbon.switch import OFF
from mlflow_carbon.switch import is_server_process as is_server_process

ENV_PREFIX = "MLFLOW_CARBON_"

_TRUE, _FALSE = frozenset({"1", "true", "on", "yes"}), OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user decided; ``None`` means not set.

    Each field is set by ``enable(field=...)``, by ``MLFLOW_CARBON_<FIELD>``, or by ``field = ...`` in
    the project's mlflow-carbon.toml or pyproject.toml; the first of these that says something wins.
    """

    enabled: bool = True
    """Measure runs of this process."""
    recover: bool = True
    """Deliver, in the background, what processes that died left in the spool for the store in use."""
    region: str | None = None
    """ISO 3166 code (``FR``, ``US-CA``), ``provider/region`` (``aws/eu-west-3``), or a code of your own table."""
    pue: float | None = None
    """Power usage effectiveness of the site, >= 1; recorded beside the figures, never folded in."""
    sample_period_s: float = 1.0
    """Between two readings of the counters in a run's first minute; later up to 5 s."""
    publish_period_s: float = 60.0
    """Between two ``log_batch`` calls per run while it runs."""
    wall_power_file: Path | None = None
    """The whole machine's power: a hwmon file (microwatts), or a file in which you keep the watts."""
    wall_power_command: str | None = None
    """The same from a program that prints the watts; asked every 5 s, without a shell."""
    wall_redfish_url: str | None = None
    """The same from a BMC: the https address of its Power, EnvironmentMetrics or Sensor resource."""
    wall_redfish_login: Path | None = None
    """File with ``user:password`` for it."""
    wall_redfish_ca: Path | None = None
    """File with the certificate authority of the BMC, where the system does not know it."""
    wall_factor: float | None = None
    """What to multiply that sensor's readings by, to get what a better meter read beside it."""
    wall_factor_source: str | None = None
    """Where the factor is from: device, date, who. Required with it."""
    node: str | None = None
    """This host's name among those that work on one run together; default: its host name."""
    nodes: float | None = None
    """How many hosts work on the run together; default: what torchrun, srun or mpirun tell."""
    spool_dir: Path | None = None
    """Where ticks are kept until MLflow has them; default: the user's state folder."""
    dataset_cards: Path | None = None
    """Folder searched for dataset cards (``*.dataset.yaml``) besides the script's own."""
    hash_limit_mb: float = 1024.0
    """Datasets larger than this are fingerprinted by a labelled sample."""
    factor_table: Path | None = None
    """CSV with emission factors of your own; default: the one brought in by `mlflow-carbon factors import`."""
    live_intensity: str | None = None
    """``electricity-maps`` or ``watttime``: ask for the carbon intensity of each hour (needs a key); default: no network."""
    live_zone: str | None = None
    """The provider's name of the grid zone (``FR``, ``CAISO_NORTH``); default: the region, if it is a country."""
    live_address: str | None = None
    """Where the provider is reached instead of its own address, for a proxy."""
    contract_g_per_kwh: float | None = None
    """Emission factor of your electricity contract, shown beside the location-based figure (market-based)."""
    contract: str | None = None
    """What that factor rests on: supplier, certificates, year."""
    project: str | None = None
    phase: str | None = None
    intended_use: str | None = None
    owner: str | None = None
    gate_policy: str | None = None
    """Pack name or file whose ``gate`` section protects the registry; not set: no gate."""
    gate_ledger: Path | None = None
    """File of the gate's decisions; default: ``gate-ledger.jsonl`` in the folder of the spool."""
    gate_deadline_s: float = 10.0
    """The gate stays closed if the evidence has not been read by then."""
    signing_key: Path | None = None
    """Private key (``mlflow-carbon keys generate``) that signs the record of each run at its end."""


OF_THE_RECORD = (
    "region",
    "factor_table",
    "contract",
    "contract_g_per_kwh",
    "pue",
    "project",
    "phase",
    "intended_use",
    "owner",
)
"""What a run's record says of the settings it was made with, whoever delivers it later."""


class Explained(NamedTuple):
    """One setting, its value, and where the value comes from."""

    name: str
    value: object
    source: str
    """``default``, ``environment MLFLOW_CARBON_REGION``, a file with its table, or ``enable()``."""


_ONLY_IN_ENVIRONMENT = {
    "gate_policy": "it protects a server, whose environment decides",
    "gate_ledger": "it belongs to a server, whose environment decides",
    "gate_deadline_s": "it belongs to a server, whose environment decides",
    "live_address": "a file in a project must not choose where your key is sent",
    "wall_power_command": "it belongs to the machine, whose environment decides",
    "wall_redfish_url": "it belongs to the machine, whose environment decides",
    "wall_redfish_login": "it belongs to the machine, whose environment decides",
    "wall_redfish_ca": "it belongs to the machine, whose environment decides",
    "wall_factor": "it belongs to the machine, whose environment decides",
    "wall_factor_source": "it belongs to the machine, whose environment decides",
    "wall_power_file": "it belongs to the machine, whose environment decides",
    "signing_key": "a file in a project must not choose in whose name is signed",
    "node": "it is different on every host, whose environment decides",
    "nodes": "it belongs to one job, whose environment decides",
    "spool_dir": "a file in a project must not choose where this user's processes write",
}


def _converted(name: str, kind: str, text: str) -> object:
    """Text from the environment as the kind of its field."""
    if kind == "bool":
        if text.strip().lower() in _TRUE | _FALSE:
            return text.strip().lower() in _TRUE
        raise SettingsError(f"{name}={text!r} is neither true nor false. Set it to true or false.")
    if kind.startswith("float"):
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"{name}={text!r} is not a number.") from None
        return _in_bounds(name, value)
    return Path(text).expanduser() if kind.startswith("Path") else text


def _in_bounds(name: str, value: float) -> float:
    least = 1.0 if name.lower().endswith("pue") else 0.0
    if not least <= value < float("inf"):
        raise SettingsError(f"{name}={value:g} must be a finite number, at least {least:g}.")
    return value


def _typed(name: str, kind: str, value: object, beside: Path | None) -> object:
    """A value from TOML or from code as the kind of its field; relative paths start at the file."""
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind.startswith("float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _in_bounds(name, float(value))
    if kind.startswith("Path") and isinstance(value, (str, Path)):
        return (beside / Path(value).expanduser()) if beside else Path(value).expanduser()
    if kind.startswith("str") and isinstance(value, str):
        return value
    wanted = {"b": "true or false", "f": "a number", "P": "a path, as text"}.get(kind[0], "text")
    raise SettingsError(f"{name} = {value!r} must be {wanted}.")


def _kinds() -> dict[str, str]:
    return {field.name: str(field.type) for field in fields(Settings)}


def checked(given: Mapping[str, object]) -> dict[str, object]:
    """Settings given in code.

    Raises:
        SettingsError: there is no such setting, or its value cannot be used.
    """
    kinds = _kinds()
    for name in given:
        if name not in kinds:
            raise SettingsError(f"there is no setting {name!r}.{suggestion(name, kinds)}")
    return {
        name: value if value is None else _typed(name, kinds[name], value, None)
        for name, value in given.items()
    }


def _from_file(found: SettingsFile) -> dict[str, object]:
    kinds = _kinds()
    values: dict[str, object] = {}
    for key, value in found.values.items():
        if key not in kinds:
            hint = suggestion(key, kinds)
            raise SettingsError(f"{found.named(key)}: there is no such setting.{hint}")
        if key in _ONLY_IN_ENVIRONMENT:
            raise SettingsError(
                f"{found.named(key)}: is set by {ENV_PREFIX}{key.upper()} only: "
                f"{_ONLY_IN_ENVIRONMENT[key]}."
            )
        beside = found.path.parent if found.path else None
        values[key] = _typed(found.named(key), kinds[key], value, beside)
    return values


def _gathered(source: Mapping[str, str], folder: Path | None) -> dict[str, tuple[object, str]]:
    """Name -> value and where it is from, for everything that was set; the stronger source wins."""
    found = SettingsFile() if folder is None else nearest(folder)
    values = {key: (value, found.named(key)) for key, value in _from_file(found).items()}
    for name, kind in _kinds().items():
        variable = ENV_PREFIX + name.upper()
        if text := source.get(variable, ""):
            values[name] = (_converted(variable, kind, text), f"environment {variable}")
    return values


def _here() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # the working directory was removed under us
        return None


def load(environ: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Settings:
    """The settings of this process: environment over the project's file over defaults.

    An empty variable counts as not set. ``folder`` is where the search for a file starts; default:
    the working directory.

    Raises:
        SettingsError: a value cannot be used; names the variable or key and what it should be.
    """
    source = os.environ if environ is None else environ
    gathered = _gathered(source, folder or _here())
    return Settings(**{name: value for name, (value, _) in gathered.items()})  # type: ignore[arg-type]


def explain(
    environ: Mapping[str, str] | None = None, *, folder: Path | None = None
) -> tuple[Explained, ...]:
    """Every setting with its value and where it comes from, in the order of ``Settings``.

    Raises:
        SettingsError: as ``load``.
    """
    source = os.environ if environ is None else environ
    gathered = _gathered(source, folder or _here())
    defaults = Settings()
    return tuple(
        Explained(name, *gathered.get(name, (getattr(defaults, name), "default")))
        for name in _kinds()
    )


_READ_ALONE = ("live_key", "gate_ledger", "gate_deadline_s", "keys", "trusted_keys")
"""Read on their own: the gate must work when another setting is broken."""


def unknown_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """``MLFLOW_CARBON_*`` variables that set nothing, each with a suggestion or ""."""
    source = os.environ if environ is None else environ
    known = {ENV_PREFIX + name.upper() for name in (*_kinds(), *_READ_ALONE)}
    return {
        name: suggestion(name, known).strip()
        for name in sorted(source)
        if name.startswith(ENV_PREFIX) and name not in known
    }


def gate_policy(environ: Mapping[str, str] | None = None) -> str | None:
    """The gate's policy alone: readable even when another setting is broken, which must not open the gate."""
    source = os.environ if environ is None else environ
    return source.get(ENV_PREFIX + "GATE_POLICY") or None


def gate_ledger(environ: Mapping[str, str] | None = None) -> Path:
    """Where the gate's decisions are kept."""
    source = os.environ if environ is None else environ
    if text := source.get(ENV_PREFIX + "GATE_LEDGER", ""):
        return Path(text).expanduser()
    chosen = source.get(ENV_PREFIX + "SPOOL_DIR", "")
    folder = Settings(spool_dir=Path(chosen).expanduser() if chosen else None)
    return spool_dir(folder, source) / "gate-ledger.jsonl"


def gate_deadline_s(environ: Mapping[str, str] | None = None) -> float:
    """Seconds after which the gate stops waiting for evidence.

    Raises:
        SettingsError: not a number.
    """
    source = os.environ if environ is None else environ
    name = ENV_PREFIX + "GATE_DEADLINE_S"
    text = source.get(name, "")
    return float(str(_converted(name, "float", text))) if text else Settings().gate_deadline_s


def keys_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this user's private keys lie: ``MLFLOW_CARBON_KEYS``, else in the user's configuration."""
    source = os.environ if environ is None else environ
    if text := source.get(ENV_PREFIX + "KEYS", ""):
        return Path(text).expanduser()
    if configuration := source.get("XDG_CONFIG_HOME", ""):
        return Path(configuration) / "mlflow-carbon" / "keys"
    try:
        return Path.home() / ".config" / "mlflow-carbon" / "keys"
    except RuntimeError:  # no HOME and no passwd entry; nobody else may choose the keys here
        return Path("/nonexistent/mlflow-carbon/keys")


def trusted_keys(environ: Mapping[str, str] | None = None) -> Path:
    """The file of the public keys whose signatures count; it may not exist."""
    source = os.environ if environ is None else environ
    if text := source.get(ENV_PREFIX + "TRUSTED_KEYS", ""):
        return Path(text).expanduser()
    return keys_folder(source) / "trusted_keys.yaml"


def live_key(environ: Mapping[str, str] | None = None) -> str:
    """The key of the provider of live intensities, or ``""``. No setting, so that nothing ever shows it."""
    source = os.environ if environ is None else environ
    return source.get(ENV_PREFIX + "LIVE_KEY", "")


def source_date(environ: Mapping[str, str] | None = None) -> datetime | None:
    """The moment that SOURCE_DATE_EPOCH puts in place of now (https://reproducible-builds.org/specs/source-date-epoch/).

    Raises:
        SettingsError: it is no whole number of seconds.
    """
    source = os.environ if environ is None else environ
    text = source.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), timezone.utc)
    except (ValueError, OverflowError, OSError):
        hint = "Set it to whole seconds since 1970-01-01 UTC, or unset it."
        raise SettingsError(f"SOURCE_DATE_EPOCH={text[:60]!r} is no moment. {hint}") from None


def visible_gpus(environ: Mapping[str, str] | None = None) -> str | None:
    """The GPUs that CUDA shows to this process (``CUDA_VISIBLE_DEVICES``); ``None``: all, empty: none."""
    source = os.environ if environ is None else environ
    return source.get("CUDA_VISIBLE_DEVICES")


def visible_amd_gpus(environ: Mapping[str, str] | None = None) -> str | None:
    """The GPUs that ROCm shows to this process, by number; ``None``: all, empty: none."""
    source = os.environ if environ is None else environ
    names = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    return next((source[name] for name in names if name in source), None)


def inherited_run_id(environ: Mapping[str, str] | None = None) -> str | None:
    """The run that a parent process (``mlflow run``, a launcher) handed down, if any."""
    source = os.environ if environ is None else environ
    return source.get("MLFLOW_RUN_ID") or None


def factor_table(settings: Settings, environ: Mapping[str, str] | None = None) -> Path | None:
    """The user's own emission factors: the setting, else the imported table; it may not exist."""
    if settings.factor_table is not None:
        return settings.factor_table
    source = os.environ if environ is None else environ
    if data := source.get("XDG_DATA_HOME", ""):
        return Path(data) / "mlflow-carbon" / "factors.csv"
    try:
        return Path.home() / ".local" / "share" / "mlflow-carbon" / "factors.csv"
    except RuntimeError:  # as below
        return None


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


def inherited_environment(**changes: str) -> dict[str, str]:
    """This process's whole environment for a child, with some variables set."""
    return dict(os.environ) | changes
