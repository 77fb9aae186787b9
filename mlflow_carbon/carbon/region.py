"""Where the electricity was used, and how that is known; without a network call.

Order: setting > evidence of the cloud on this machine > the provider only > the time zone (a guess)
> unknown. A locale says nothing, ``AWS_REGION`` on a laptop only names an API endpoint, and what
is not known is the world with its range, never some other country.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon.carbon import tables
from mlflow_carbon.carbon.own import own_factors
from mlflow_carbon.errors import SettingsError
from mlflow_carbon.settings import Settings
from mlflow_carbon.surroundings import region_hints

WORLD = "WORLD"

MAX_FILE_BYTES = 1_000_000
"""More than any of the small files read here holds; the rest of a larger one is ignored."""

_CLOUD_INIT_NAMES = {"aws": "aws", "gce": "gcp", "gcp": "gcp", "azure": "azure"}

_DMI_SIGNS = {
    "aws": ("amazon ec2",),
    "gcp": ("google compute engine",),
    "azure": ("7783-7084-3265-9085-8269-3286-77",),
}
"""Texts below /sys/class/dmi/id; the last is the chassis asset tag every Azure machine carries."""

_AWS_RUNTIME = ("AWS_EXECUTION_ENV", "ECS_CONTAINER_METADATA_URI_V4", "SM_TRAINING_ENV")
_REGION_VARIABLES = {
    "aws": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "gcp": ("CLOUD_ML_REGION", "GOOGLE_CLOUD_REGION", "CLOUDSDK_COMPUTE_REGION"),
    "azure": ("REGION_NAME",),
}
_TITLES = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure"}


class Region(NamedTuple):
    """A place with the reason why we think so.

    ``code`` is an ISO 3166 code (``FR``, ``US-CA``), ``provider/region`` or ``WORLD``; ``source`` is
    ``setting``, ``evidence``, ``provider``, ``guess`` or ``unknown``.
    """

    code: str
    name: str
    source: str
    reason: str


def find_region(
    settings: Settings, *, root: Path = Path("/"), hints: Mapping[str, str] | None = None
) -> Region:
    """The region of this machine. Never raises: a setting that names no known place is told as unknown.

    ``root`` is where the files are looked for; ``hints`` are the environment variables that can say
    something (default: those of this process).
    """
    if settings.region is not None:
        try:
            return _own_region(settings) or parse_region(settings.region)
        except SettingsError as error:
            return Region(WORLD, "World", "unknown", str(error))
    said = region_hints() if hints is None else hints
    provider, sign = _provider(root, said)
    return (
        _from_cloud_init(root)
        or _from_sagemaker(root)
        or _from_variables(provider, sign, said)
        or _provider_only(provider, sign)
        or _from_time_zone(root, said)
        or Region(WORLD, "World", "unknown", "nothing on this machine says where it is")
    )


def _own_region(settings: Settings) -> Region | None:
    """A place of the user's own table, which may be a site no other table knows."""
    wanted = (settings.region or "").strip()
    row = own_factors(settings).get(wanted)
    return Region(row.code, row.name, "setting", f"set to {wanted!r}") if row else None


def parse_region(text: str) -> Region:
    """A region named by the user: ``FR``, ``US-CA``, ``aws/eu-west-3`` or ``WORLD``.

    Raises:
        SettingsError: there is no such place in the tables; says how to find one.
    """
    reason, wanted = f"set to {text!r}", text.strip()
    if wanted.upper() == WORLD:
        return Region(WORLD, "World", "setting", reason)
    if "/" in wanted:
        provider, _, name = wanted.lower().partition("/")
        found = _cloud_region(provider, name, "setting", reason)
    else:
        code = wanted.upper()
        found = (
            Region(code, place_names()[code], "setting", reason) if code in place_names() else None
        )
    if found is None:
        raise SettingsError(
            f"MLFLOW_CARBON_REGION: {text!r} is no place with a published factor. Give a country (FR), "
            "a state or province (US-CA) or a cloud region (aws/eu-west-3); "
            "`mlflow-carbon factors show` lists them."
        )
    return found


def place_names() -> Mapping[str, str]:
    """Names of every country, state and province with a factor, by code."""
    countries = {row["code"]: row["name"] for row in tables.rows("grid_country")}
    return countries | {row["code"]: row["name"] for row in tables.rows("grid_subnational")}


def _cloud_region(provider: str, name: str, source: str, reason: str) -> Region | None:
    for row in tables.rows("cloud_regions"):
        if (row["provider"], row["region"]) == (provider, name):
            title = f"{_TITLES[provider]} {name} ({row['location']}, {row['country']})"
            own = bool(row["provider_g_per_kwh"])
            code = f"{provider}/{name}" if own else row["subdivision"] or row["country"]
            return Region(code, title, source, reason)
    return None


def _provider(root: Path, hints: Mapping[str, str]) -> tuple[str, str]:
    """The cloud this machine runs in and what shows it; two empty texts when nothing does."""
    for name in ("sys_vendor", "product_name", "bios_vendor", "chassis_asset_tag"):
        text = _read(root / "sys/class/dmi/id" / name).strip()
        for provider, signs in _DMI_SIGNS.items():
            if text.lower() in signs:
                return provider, f"DMI {name} {text!r}"
    for variable in _AWS_RUNTIME:
        if hints.get(variable):
            return "aws", f"{variable} is set"
    return "", ""


def _from_cloud_init(root: Path) -> Region | None:
    data = _read_json(root / "run/cloud-init/instance-data.json").get("v1")
    if not isinstance(data, dict):
        return None
    provider = _CLOUD_INIT_NAMES.get(str(data.get("cloud_name", "")).lower(), "")
    for key in ("region", "availability_zone"):
        value = str(data.get(key) or "")
        # A zone is a region and a letter: eu-west-3a, europe-west9-b.
        for name in (value, value.rsplit("-", 1)[0], value[:-1]):
            if found := _cloud_region(
                provider, name, "evidence", f"cloud-init: {provider} {key} {value}"
            ):
                return found
    return None


def _from_sagemaker(root: Path) -> Region | None:
    arn = _read_json(root / "opt/ml/metadata/resource-metadata.json").get("ResourceArn")
    parts = str(arn or "").split(":")
    if len(parts) < 4 or parts[0] != "arn":
        return None
    return _cloud_region("aws", parts[3], "evidence", f"SageMaker resource in {parts[3]}")


def _from_variables(provider: str, sign: str, hints: Mapping[str, str]) -> Region | None:
    for variable in _REGION_VARIABLES.get(provider, ()):
        name = hints.get(variable, "").lower().replace(" ", "")
        if found := _cloud_region(provider, name, "evidence", f"{variable}={name} and {sign}"):
            return found
    return None


def _provider_only(provider: str, sign: str) -> Region | None:
    if not provider:
        return None
    reason = f"{sign} says {_TITLES[provider]}, nothing says which region"
    return Region(WORLD, "World", "provider", reason)


def _from_time_zone(root: Path, hints: Mapping[str, str]) -> Region | None:
    zone = _time_zone(root, hints)
    for row in tables.rows("timezones"):
        if row["timezone"] == zone:
            break
    else:
        return None
    name = place_names().get(row["country"], row["country"])
    reason = f"time zone {zone}"
    if int(row["countries_sharing_zone"]) > 1:
        reason += f", shared by {row['countries_sharing_zone']} countries"
    return Region(row["country"], name, "guess", reason)


def _time_zone(root: Path, hints: Mapping[str, str]) -> str:
    """The name of the local time zone, from TZ, /etc/timezone or the /etc/localtime link."""
    if named := hints.get("TZ", "").lstrip(":"):
        return named
    if named := _read(root / "etc/timezone").strip():
        return named
    try:
        target = (root / "etc/localtime").readlink().as_posix()
    except OSError:
        return ""
    return target.partition("zoneinfo/")[2]


def _read(path: Path) -> str:
    """The start of a small file, or ``""`` when it is not there or may not be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return ""


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        data = json.loads(_read(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
