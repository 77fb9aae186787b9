"""Factors of the hour: asked for only on request, bounded, kept, labelled, and never a reason to fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlflow_carbon.carbon.hourly import Hour
from mlflow_carbon.carbon.intensity import Factor
from mlflow_carbon.carbon.live import PAUSE_S, LiveIntensity, live_intensity
from mlflow_carbon.carbon.providers import (
    MAX_BYTES,
    About,
    ElectricityMaps,
    WattTime,
    provider,
)
from mlflow_carbon.carbon.region import Region
from mlflow_carbon.errors import DataError, SettingsError
from mlflow_carbon.settings import Settings, explain
from tests.carbon.grid_server import (
    KEY,
    PASSWORD,
    USER,
    Grid,
    electricity_maps,
    serving,
    watttime,
)

FRANCE = Region("FR", "France", "setting", "set to 'FR'")
TEN = datetime(2026, 11, 23, 10, tzinfo=timezone.utc)
ELEVEN = TEN + timedelta(hours=1)
NOW = ELEVEN + timedelta(minutes=30)


@pytest.fixture
def grid() -> Iterator[Grid]:
    with serving() as served:
        yield served


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "intensity.json"


def live(grid: Grid, file: Path | None = None) -> LiveIntensity:
    return LiveIntensity(ElectricityMaps(KEY, grid.address), "FR", file)


def test_nobody_is_asked_unless_a_provider_is_set() -> None:
    assert live_intensity(Settings(), FRANCE) is None


def test_electricity_maps_is_asked_for_its_zone_and_never_for_where_we_call_from(
    grid: Grid,
) -> None:
    grid.says(electricity_maps("FR", {TEN: 40.0, ELEVEN: 60.0}))
    assert ElectricityMaps(KEY, grid.address).hours("FR", TEN, NOW) == {TEN: 40.0, ELEVEN: 60.0}
    ((path, query, headers),) = grid.asked
    assert path == "/v3/carbon-intensity/history"
    assert query == {
        "zone": "FR",
        "emissionFactorType": "lifecycle",
        "shouldUseFallbackCallerLookup": "false",
    }
    assert headers["auth-token"] == KEY


def test_watttime_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour(grid: Grid) -> None:
    grid.says(watttime("CAISO_NORTH", {TEN: 1000.0}))
    service = WattTime(f"{USER}:{PASSWORD}", grid.address)
    assert service.hours("CAISO_NORTH", TEN, NOW) == {TEN: pytest.approx(453.59237)}
    (_, (path, query, _)) = grid.asked
    assert path == "/v3/historical"
    assert query["signal_type"] == "co2_moer"
    assert query["start"] == TEN.isoformat()


def test_the_factor_is_the_mean_weighted_by_the_joules_of_each_hour_and_says_what_it_is(
    grid: Grid,
) -> None:
    grid.says(electricity_maps("FR", {TEN: 40.0, ELEVEN: 60.0}))
    factor = live(grid).factor(FRANCE, [Hour(TEN, 3000.0), Hour(ELEVEN, 1000.0)], NOW)
    assert isinstance(factor, Factor)
    assert factor.g_per_kwh.mid == pytest.approx(45.0)
    assert factor.g_per_kwh.low < 45.0 < factor.g_per_kwh.high
    meant = "lifecycle, hourly average, location-based (consumed, imports included)"
    assert factor.basis_text == meant
    assert (factor.title, factor.region, factor.year) == ("Electricity Maps", "FR", 2026)
    assert [hour.g_per_kwh for hour in factor.hours] == [40.0, 60.0]


def test_a_marginal_figure_is_labelled_marginal_and_direct(grid: Grid) -> None:
    grid.says(watttime("CAISO_NORTH", {TEN: 1000.0}))
    asked = LiveIntensity(WattTime(f"{USER}:{PASSWORD}", grid.address), "CAISO_NORTH", None)
    factor = asked.factor(FRANCE, [Hour(TEN, 1.0)], NOW)
    assert isinstance(factor, Factor)
    assert factor.basis_text == "direct, hourly marginal, location-based (CO2 only)"


def test_an_hour_next_to_a_known_one_counts_with_it_and_any_other_is_unknown(grid: Grid) -> None:
    grid.says(electricity_maps("FR", {TEN: 40.0}))
    asked = live(grid)
    found = asked.factor(FRANCE, [Hour(TEN, 1.0), Hour(ELEVEN, 1.0)], NOW)
    assert isinstance(found, Factor)
    far = Hour(TEN - timedelta(hours=5), 1.0)
    assert (
        asked.factor(FRANCE, [far], NOW) == "Electricity Maps does not tell every hour of the run"
    )


OTHER_TYPE: dict[str, Any] = electricity_maps("FR", {TEN: 40.0})
OTHER_TYPE["history"][0]["emissionFactorType"] = "direct"


@pytest.mark.parametrize(
    ("document", "status", "message"),
    [
        (electricity_maps("DE", {TEN: 40.0}), 200, "another zone than FR"),
        (OTHER_TYPE, 200, "values that cannot be used"),
        (electricity_maps("FR", {TEN: 40_000.0}), 200, "values that cannot be used"),
        (electricity_maps("FR", {TEN: -1.0}), 200, "values that cannot be used"),
        (b'{"zone": "FR", "history": [{"datetime": "2026-11-23T10:00Z", "carbonIntensity": NaN}]}',
         200, "values that cannot be used"),
        ({"zone": "FR", "history": [{"datetime": "noon", "carbonIntensity": 1}]}, 200, "values that cannot"),
        ({"zone": "FR", "history": [{"datetime": "2026-11-23T10:00", "carbonIntensity": 1}]}, 200, "values that"),
        ({"zone": "FR"}, 200, "values that cannot be used"),
        (b"<html>", 200, "no JSON object"),
        (b"[" * 100_000, 200, "no JSON object"),
        (b" " * (MAX_BYTES + 1), 200, "no JSON object"),
        ({"error": KEY}, 401, "HTTP 401"),
        ({}, 429, "HTTP 429"),
        ({}, 500, "HTTP 500"),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_is_told_without_the_key_and_the_year_counts(
    grid: Grid, caplog: pytest.LogCaptureFixture, document: object, status: int, message: str
) -> None:
    grid.says(document, status)
    with caplog.at_level(logging.DEBUG):
        found = live(grid).factor(FRANCE, [Hour(TEN, 1.0)], NOW)
    assert isinstance(found, str)
    assert message in found
    assert message in caplog.text
    assert KEY not in found + caplog.text


@pytest.mark.parametrize(
    "meta", [{"units": "kg"}, {"region": "ERCOT"}, {"signal_type": "health_damage"}]
)
def test_watttime_figures_of_another_unit_region_or_signal_are_refused(
    grid: Grid, meta: dict[str, str]
) -> None:
    grid.says(watttime("CAISO_NORTH", {TEN: 1000.0}, **meta))
    with pytest.raises(DataError, match=f"another {next(iter(meta))}"):
        WattTime(f"{USER}:{PASSWORD}", grid.address).hours("CAISO_NORTH", TEN, NOW)
    with pytest.raises(DataError, match="HTTP 401"):
        WattTime("kim:wrong", grid.address).hours("CAISO_NORTH", TEN, NOW)


def test_a_redirect_is_not_followed_as_it_would_carry_the_key_away(grid: Grid) -> None:
    with serving() as other:
        other.says(electricity_maps("FR", {TEN: 40.0}))
        grid.says({}, 302, Location=f"{other.address}/v3/carbon-intensity/history")
        assert "HTTP 302" in str(live(grid).factor(FRANCE, [Hour(TEN, 1.0)], NOW))
        assert other.asked == []


class Silent:
    """A provider whose line is open and says nothing."""

    about = About("Silent", "lifecycle", "average", "")

    def __init__(self) -> None:
        self.done = threading.Event()

    def hours(self, zone: str, since: datetime, until: datetime) -> Mapping[datetime, float]:
        self.done.wait()
        return {}


def test_a_provider_that_does_not_answer_is_not_waited_for() -> None:
    silent = Silent()
    try:
        found = LiveIntensity(silent, "FR", None, wait_s=0.05).factor(FRANCE, [Hour(TEN, 1.0)], NOW)
        assert found == "Silent took longer than 0.05 s"
    finally:
        silent.done.set()


def test_a_server_that_is_gone_is_told() -> None:
    with serving() as grid:
        address = grid.address
    gone = LiveIntensity(ElectricityMaps(KEY, address), "FR", None)
    assert "did not answer" in str(gone.factor(FRANCE, [Hour(TEN, 1.0)], NOW))


def test_it_is_asked_at_most_once_in_ten_minutes(grid: Grid) -> None:
    now_s = [0.0]
    asked = LiveIntensity(ElectricityMaps(KEY, grid.address), "FR", None, clock=lambda: now_s[0])
    hours = [Hour(ELEVEN, 1.0)]
    assert "HTTP 404" in str(asked.factor(FRANCE, hours, NOW))
    grid.says(electricity_maps("FR", {ELEVEN: 50.0}))
    assert "HTTP 404" in str(asked.factor(FRANCE, hours, NOW))
    now_s[0] = PAUSE_S
    assert isinstance(asked.factor(FRANCE, hours, NOW), Factor)
    assert len(grid.asked) == 2


def test_hours_that_are_over_are_kept_for_other_processes(grid: Grid, file: Path) -> None:
    grid.says(electricity_maps("FR", {TEN: 40.0}))
    assert isinstance(live(grid, file).factor(FRANCE, [Hour(TEN, 1.0)], NOW), Factor)
    assert isinstance(live(grid, file).factor(FRANCE, [Hour(TEN, 1.0)], NOW), Factor)
    assert len(grid.asked) == 1
    assert KEY not in file.read_text()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": {"x": 1}}', '{"a": {"2026-01-01": 1}}'])
def test_a_damaged_file_of_kept_hours_is_passed_over(grid: Grid, file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content)
    grid.says(electricity_maps("FR", {TEN: 40.0}))
    assert isinstance(live(grid, file).factor(FRANCE, [Hour(TEN, 1.0)], NOW), Factor)


def test_a_file_that_cannot_be_written_does_not_matter(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    grid.says(electricity_maps("FR", {TEN: 40.0}))
    asked = live(grid, tmp_path / "taken" / "intensity.json")
    assert isinstance(asked.factor(FRANCE, [Hour(TEN, 1.0)], NOW), Factor)


@pytest.mark.parametrize(
    ("name", "key", "address", "message"),
    [
        ("co2signal", KEY, "", "there is no provider 'co2signal'"),
        ("watttime", "", "", "needs a key"),
        ("watttime", "a\nb", "", "needs a key"),
        ("watttime", KEY, "http://example.org", "https"),
        ("watttime", KEY, "ftp://127.0.0.1", "https"),
        ("watttime", KEY, "file:///etc/passwd", "https"),
    ],
)
def test_a_provider_that_cannot_be_asked_safely_is_refused(
    name: str, key: str, address: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        provider(name, key, address)


def test_the_key_is_shown_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_CARBON_LIVE_KEY", KEY)
    monkeypatch.setenv("MLFLOW_CARBON_LIVE_INTENSITY", "electricity-maps")
    assert KEY not in repr(explain()) + repr(provider("electricity-maps", KEY))


@pytest.mark.parametrize("source", ["guess", "provider", "unknown"])
def test_the_zone_of_a_place_that_is_only_guessed_is_asked_for(source: str) -> None:
    place = Region("FR", "France", source, "time zone Europe/Paris")
    found = live_intensity(Settings(live_intensity="electricity-maps"), place)
    assert "MLFLOW_CARBON_LIVE_ZONE" in str(found)
