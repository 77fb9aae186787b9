"""Services that tell the carbon intensity of the hour, each behind one small interface.

An answer is checked before it is used: another zone, another unit or another kind of figure than the
one asked for is refused. Keys go into request headers, never into an address, a message or a record.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from mlflow_carbon.carbon.hourly import hour_of
from mlflow_carbon.errors import DataError, SettingsError

MAX_BYTES = 1_000_000
"""Of an answer: a day of five-minute values is some 30 kB."""
WAIT_S = 3.0
MAX_G_PER_KWH = 3000.0
"""A marginal plant can emit more than any grid does on average; a larger number is in another unit."""
G_PER_KWH_OF_LB_PER_MWH = 0.45359237
"""One pound is 453.59237 g by definition, one MWh 1,000 kWh."""


@dataclass(frozen=True, slots=True)
class About:
    """A service and what its figures mean; ``basis``, ``kind`` and ``note`` as in ``intensity.Factor``."""

    name: str
    basis: str
    kind: str
    note: str
    license: str = "terms of the subscription"


class Provider(Protocol):
    """A service."""

    @property
    def about(self) -> About:
        """Its name, and what its figures mean."""

    def hours(self, zone: str, since: datetime, until: datetime) -> Mapping[datetime, float]:
        """gCO2e/kWh by hour, as far as the service knows them.

        Raises:
            DataError: no answer, or not one that can be used.
        """


@dataclass(frozen=True, slots=True)
class ElectricityMaps:
    """Life-cycle average of the electricity consumed, traced through borders; the last 24 hours."""

    key: str = field(repr=False)
    address: str = "https://api.electricitymaps.com"
    about: About = About("Electricity Maps", "lifecycle", "average", "consumed, imports included")

    def hours(self, zone: str, since: datetime, until: datetime) -> Mapping[datetime, float]:
        """``/v3/carbon-intensity/history``; a zone it does not know is not to be guessed from our address."""
        del since, until  # it tells the last 24 hours, no others
        query = {
            "zone": zone,
            "emissionFactorType": self.about.basis,
            "shouldUseFallbackCallerLookup": "false",
        }
        answer = _fetch(self, "/v3/carbon-intensity/history", query, {"auth-token": self.key})
        if answer.get("zone") != zone:
            raise DataError(f"{self.about.name} answered for another zone than {zone}.")
        return _usable(self, answer.get("history"), lambda item: self._point(item, zone))

    def _point(self, item: Mapping[str, Any], zone: str) -> tuple[datetime, float]:
        if item.get("emissionFactorType", self.about.basis) != self.about.basis:
            raise ValueError("another kind of factor")
        if item.get("zone", zone) != zone:
            raise ValueError("another zone")
        return _moment(item["datetime"]), float(item["carbonIntensity"])


@dataclass(frozen=True, slots=True)
class WattTime:
    """Marginal emissions at the plants (MOER). ``key`` is ``user:password``."""

    key: str = field(repr=False)
    address: str = "https://api.watttime.org"
    about: About = About("WattTime", "direct", "marginal", "CO2 only")

    def hours(self, zone: str, since: datetime, until: datetime) -> Mapping[datetime, float]:
        """``/login``, then ``/v3/historical``."""
        basic = base64.b64encode(self.key.encode()).decode()
        token = _fetch(self, "/login", {}, {"Authorization": f"Basic {basic}"}).get("token")
        if not isinstance(token, str) or not token.isprintable():
            raise DataError(f"{self.about.name} gave no token.")
        query = {
            "region": zone,
            "signal_type": "co2_moer",
            "start": since.isoformat(),
            "end": (until + timedelta(minutes=5)).isoformat(),
        }
        bearer = {"Authorization": f"Bearer {token}"}
        answer = _fetch(self, "/v3/historical", query, bearer)
        about = answer.get("meta")
        said = about if isinstance(about, dict) else {}
        wanted = {"region": zone, "signal_type": "co2_moer", "units": "lbs_co2_per_mwh"}
        if wrong := [name for name, text in wanted.items() if said.get(name) != text]:
            raise DataError(f"{self.about.name} answered with another {wrong[0]} than asked for.")
        return _usable(self, answer.get("data"), self._point)

    def _point(self, item: Mapping[str, Any]) -> tuple[datetime, float]:
        return _moment(item["point_time"]), float(item["value"]) * G_PER_KWH_OF_LB_PER_MWH


PROVIDERS: Mapping[str, Callable[..., Provider]] = {
    "electricity-maps": ElectricityMaps,
    "watttime": WattTime,
}


def provider(name: str, key: str, address: str = "") -> Provider:
    """The provider of a setting; ``address`` stands for its own, for a proxy.

    Raises:
        SettingsError: there is no such provider, no key, or the key would travel in the clear.
    """
    if name not in PROVIDERS:
        raise SettingsError(
            f"live_intensity: there is no provider {name[:40]!r}. There are: {', '.join(PROVIDERS)}."
        )
    if not key or not key.isprintable():
        raise SettingsError(f"live_intensity: {name} needs a key in MLFLOW_CARBON_LIVE_KEY.")
    if not address:
        return PROVIDERS[name](key)
    if not _private(address):
        raise SettingsError("live_address: must be an https address, or http on this machine.")
    return PROVIDERS[name](key, address.rstrip("/"))


def _private(address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.scheme == "http" and parts.hostname == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(
    service: ElectricityMaps | WattTime,
    path: str,
    query: Mapping[str, str],
    headers: dict[str, str],
) -> Mapping[str, Any]:
    """One answer as a JSON object. No message holds an address or a header: both may be secret."""
    address = f"{service.address}{path}" + (f"?{urlencode(query)}" if query else "")
    request = urllib.request.Request(address, headers={"Accept": "application/json", **headers})  # noqa: S310 - see provider()
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=WAIT_S) as answer:
            content = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise DataError(f"{service.about.name} answered with HTTP {error.code}.") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{service.about.name} did not answer: {type(error).__name__}.") from None
    try:
        found = json.loads(content) if len(content) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{service.about.name} answered with something that is no JSON object.")
    return found


def _usable(
    service: ElectricityMaps | WattTime,
    items: Any,
    point: Callable[[Mapping[str, Any]], tuple[datetime, float]],
) -> Mapping[datetime, float]:
    """The mean of the values of each hour.

    Raises:
        DataError: a value is none, or cannot be in the unit the service promises.
    """
    sums: dict[datetime, list[float]] = {}
    try:
        for item in items:
            moment, value = point(item)
            sums.setdefault(hour_of(moment), []).append(_bounded(value))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        raise DataError(f"{service.about.name} answered with values that cannot be used.") from None
    return {start: sum(values) / len(values) for start, values in sums.items()}


def _bounded(g_per_kwh: float) -> float:
    if not (math.isfinite(g_per_kwh) and 0 <= g_per_kwh <= MAX_G_PER_KWH):
        raise ValueError("out of bounds")
    return g_per_kwh


def _moment(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("a moment without time zone")
    return moment.astimezone(timezone.utc)
