"""Factors of the very hours in which the energy was used, from a provider on the network.

Off unless the user sets a provider. Asking takes some seconds at most and is done at most once in ten minutes;
what was told is kept in a file for other runs. Where an hour stays unknown, the yearly factor is used
and the record says why: the two are never mixed within one figure.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mlflow_carbon import settings as settings_module
from mlflow_carbon.carbon.hourly import HOUR, Hour, hour_of, nearest
from mlflow_carbon.carbon.intensity import Factor
from mlflow_carbon.carbon.providers import Provider, provider
from mlflow_carbon.carbon.region import Region
from mlflow_carbon.errors import DataError, SettingsError
from mlflow_carbon.settings import Settings
from mlflow_carbon.units import Range

WAIT_S = 4.0
"""For an answer, name lookup and slow lines included."""
PAUSE_S = 600.0
"""Between two questions."""
KEPT = timedelta(days=31)
SPREAD = 0.119
"""Half-width of a figure: the median difference between two publishers' lifecycle figures for the same
country and year (Electricity Maps and Ember, 2024, 184 countries; our own comparison). No provider
publishes the error of an hour."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HourlyValue:
    """What one hour counted with."""

    start: str
    g_per_kwh: float
    energy_j: float


class LiveIntensity:
    """The hours of one zone as they become known."""

    def __init__(
        self,
        service: Provider,
        zone: str,
        file: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_s: float = WAIT_S,
    ) -> None:
        """``file`` keeps what was told, for later processes; ``None``: in memory only."""
        self._service, self._zone, self._file = service, zone, file
        self._clock, self._wait_s = clock, wait_s
        self._key = f"{service.about.name}/{zone}/{service.about.basis}/{service.about.kind}"
        self._known: dict[datetime, float] = dict(self._kept())
        self._told_at_s: float | None = None
        self.problem = ""
        """Why the last question had no answer."""

    def factor(self, region: Region, hours: Sequence[Hour], now: datetime) -> Factor | str:
        """The mean over ``hours``, weighted by their joules; a text says why there is none."""
        due = self._told_at_s is None or self._clock() - self._told_at_s >= PAUSE_S
        if due and self._wanted(hours, now):
            self._ask(hours[0].start, now)
        values = [nearest(self._known, hour.start) for hour in hours]
        if not hours or any(value is None for value in values):
            return self.problem or f"{self._service.about.name} does not tell every hour of the run"
        weighed = [
            HourlyValue(hour.start.isoformat(), value, hour.energy_j)
            for hour, value in zip(hours, values, strict=True)
            if value is not None
        ]
        return self._mean(region, weighed)

    def _wanted(self, hours: Sequence[Hour], now: datetime) -> bool:
        """The hour that is not over yet may still change."""
        return any(hour.start not in self._known or hour.start + HOUR > now for hour in hours)

    def _ask(self, since: datetime, now: datetime) -> None:
        """In a thread of its own: nothing else bounds a name lookup, or a line that drips."""
        self._told_at_s = self._clock()
        answer: list[Mapping[datetime, float] | str] = []

        def ask() -> None:
            try:
                answer.append(self._service.hours(self._zone, since, now))
            except DataError as error:
                answer.append(str(error))

        thread = threading.Thread(target=ask, name="mlflow-carbon-intensity", daemon=True)
        thread.start()
        thread.join(self._wait_s)
        found = (
            answer[0]
            if answer
            else f"{self._service.about.name} took longer than {self._wait_s:g} s"
        )
        if isinstance(found, str):
            self.problem = found
            _log.warning("mlflow-carbon: live carbon intensity not used: %s", found)
            return
        self.problem = ""
        self._known.update(found)
        self._keep(now)

    def _mean(self, region: Region, hours: Sequence[HourlyValue]) -> Factor:
        joules = sum(hour.energy_j for hour in hours)
        weights = [hour.energy_j / joules if joules else 1 / len(hours) for hour in hours]
        mid = sum(hour.g_per_kwh * weight for hour, weight in zip(hours, weights, strict=True))
        listed = json.dumps([[hour.start, hour.g_per_kwh] for hour in hours])
        return Factor(
            g_per_kwh=Range(mid * (1 - SPREAD), mid, mid * (1 + SPREAD)),
            region=self._zone,
            region_name=region.name,
            region_source=region.source,
            region_reason=region.reason,
            source=f"{self._service.about.name}, hourly values of zone {self._zone}",
            title=self._service.about.name,
            source_id="live",
            year=int(hours[-1].start[:4]),
            license=self._service.about.license,
            basis=self._service.about.basis,
            kind=self._service.about.kind,
            period="hourly",
            table="hours",
            table_sha256=hashlib.sha256(listed.encode()).hexdigest(),
            spread="11.9 % either way: median difference between publishers",
            note=self._service.about.note,
            hours=tuple(hours),
        )

    def _kept(self) -> Mapping[datetime, float]:
        return {
            datetime.fromisoformat(start): value
            for start, value in _read(self._file).get(self._key, {}).items()
        }

    def _keep(self, now: datetime) -> None:
        """Written beside and put in place at once: other processes read and write it too."""
        if self._file is None:
            return
        all_kept = dict(_read(self._file))
        oldest = hour_of(now) - KEPT
        all_kept[self._key] = {
            start.isoformat(): value for start, value in self._known.items() if start >= oldest
        }
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=".intensity-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(all_kept, file)
            Path(name).replace(self._file)
        except OSError as error:
            _log.debug("mlflow-carbon: carbon intensities not kept: %s", error.strerror)


def _read(file: Path | None) -> Mapping[str, Mapping[str, float]]:
    """What is kept; nothing of a file that is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        return {
            str(key): {_checked(start): float(value) for start, value in values.items()}
            for key, values in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _checked(start: str) -> str:
    if datetime.fromisoformat(start).tzinfo is None:
        raise ValueError("a moment without time zone")
    return start


def live_intensity(settings: Settings, region: Region) -> LiveIntensity | str | None:
    """What the settings ask for: nothing, a provider for the region, or a text why that cannot be."""
    if settings.live_intensity is None:
        return None
    zone = settings.live_zone or _zone_of(settings.live_intensity, region)
    if not zone:
        return "set MLFLOW_CARBON_LIVE_ZONE to the provider's name of your grid zone"
    try:
        service = provider(
            settings.live_intensity, settings_module.live_key(), settings.live_address or ""
        )
    except SettingsError as error:
        _log.warning("mlflow-carbon: %s", error)
        return str(error)
    return LiveIntensity(service, zone, settings_module.spool_dir(settings) / "intensity.json")


def _zone_of(name: str, region: Region) -> str:
    """Electricity Maps calls a country by its code. A place that is guessed names no zone."""
    sure = region.source in ("setting", "evidence")
    country = len(region.code) == 2 and region.code.isalpha()
    return region.code if name == "electricity-maps" and sure and country else ""
