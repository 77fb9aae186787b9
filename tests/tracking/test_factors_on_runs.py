"""Which emission factor a run's figures stand on: the year's, the hour's, a contract's, and what the record says of it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

import mlflow_carbon
from mlflow_carbon.carbon.hourly import hour_of
from mlflow_carbon.cli.doctor import command as doctor
from mlflow_carbon.cli.factors import command as factors
from mlflow_carbon.cli.main import cli
from mlflow_carbon.errors import DataError
from mlflow_carbon.schema import Artifact, Metric, Tag
from tests.carbon.grid_server import KEY, electricity_maps, serving
from tests.tracking.conftest import burn, our_tags, ours


def worked(name: str, run_id: str | None = None) -> str:
    with mlflow.start_run(run_id=run_id, run_name=None if run_id else name) as active:
        burn(0.4)
    return str(active.info.run_id)


def evidence_of(client: MlflowClient, run_id: str, folder: Path) -> Any:
    path = client.download_artifacts(run_id, Artifact.EVIDENCE, str(folder))
    return json.loads(Path(path).read_bytes())


def recomputed(run_id: str, store_uri: str, *arguments: str) -> dict[str, float]:
    asked = ["factors", "recompute", run_id, "--store", store_uri, "--json", *arguments]
    ours_alone = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": None}
    said = CliRunner().invoke(cli, asked, catch_exceptions=False, env=ours_alone)
    assert said.stderr == "", "MLflow's progress bars are not part of the answer"
    found: dict[str, float] = json.loads(said.stdout)["emissions_g"]
    return found


def test_the_joules_of_each_hour_are_kept_so_that_hourly_factors_can_be_applied_later(
    measuring: MlflowClient, store_uri: str, tmp_path: Path
) -> None:
    run_id = worked("hours")
    energy = evidence_of(measuring, run_id, tmp_path)["energy"]
    assert sum(joules for _, joules in energy["hours"]) == pytest.approx(
        energy["attributed_j"]["mid"]
    )
    table = tmp_path / "hours.csv"
    rows = [f"{start},1000" for start, _ in energy["hours"]]
    table.write_text("\n".join(["hour,g_per_kwh", *rows]))
    said = recomputed(run_id, store_uri, "--hourly", str(table))
    assert said["mid"] == pytest.approx(energy["attributed_j"]["mid"] / 3600)
    assert recomputed(run_id, store_uri, "--place", "FR")["mid"] == pytest.approx(
        ours(measuring.get_run(run_id))[Metric.EMISSIONS_KG] * 1000
    )
    neither = CliRunner().invoke(factors, ["recompute", run_id, "--store", store_uri])
    assert isinstance(neither.exception, DataError)
    tags = our_tags(measuring.get_run(run_id))
    assert tags[Tag.FACTOR_SOURCE] == "Ember 2026 via Our World in Data"
    assert Metric.MARKET_EMISSIONS_KG not in ours(measuring.get_run(run_id))


def test_a_run_counts_with_the_intensity_of_its_hour_where_that_is_asked_for_and_told(
    measuring: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_CARBON_LIVE_KEY", KEY)
    with serving() as grid:
        now = hour_of(datetime.now(timezone.utc))
        grid.says(electricity_maps("FR", {now: 77.0}))
        mlflow_carbon.enable(
            region="FR", live_intensity="electricity-maps", live_address=grid.address
        )
        first = worked("live")
        second = worked("live again")
        assert len(grid.asked) == 1
    run = measuring.get_run(first)
    assert our_tags(run)[Tag.FACTOR_BASIS].startswith("lifecycle, hourly average, location-based")
    assert our_tags(run)[Tag.FACTOR] == "77"
    figures = ours(run)
    kwh, kg = figures[Metric.ENERGY_KWH], figures[Metric.EMISSIONS_KG]
    assert kg == pytest.approx(kwh * 77.0 / 1000)
    assert our_tags(measuring.get_run(second))[Tag.FACTOR] == "77"
    evidence = evidence_of(measuring, first, tmp_path)
    assert [hour["g_per_kwh"] for hour in evidence["factor"]["hours"]] == [77.0]
    assert KEY not in json.dumps(evidence)


def test_without_an_answer_the_yearly_factor_counts_and_the_record_says_why(
    measuring: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_CARBON_LIVE_KEY", KEY)
    with serving() as grid:
        grid.says({"error": "Invalid auth-token"}, 401)
        mlflow_carbon.enable(
            region="FR", live_intensity="electricity-maps", live_address=grid.address
        )
        run_id = worked("fails soft")
    tags = our_tags(measuring.get_run(run_id))
    assert tags[Tag.STATUS] == "measured"
    assert tags[Tag.FACTOR_BASIS] == "lifecycle, annual average, location-based"
    assert evidence_of(measuring, run_id, tmp_path)["factor"]["not_live"] == (
        "Electricity Maps answered with HTTP 401."
    )


def test_the_factor_of_a_contract_is_shown_beside_the_location_based_one_never_in_its_place(
    measuring: MlflowClient, tmp_path: Path
) -> None:
    mlflow_carbon.enable(contract_g_per_kwh=12.5, contract="Hydro 2026 <b>certificates</b>")
    run = measuring.get_run(worked("contract"))
    figures, tags = ours(run), our_tags(run)
    assert figures[Metric.MARKET_EMISSIONS_KG] == pytest.approx(
        figures[Metric.ENERGY_KWH] * 12.5 / 1000
    )
    assert figures[Metric.EMISSIONS_KG] > figures[Metric.MARKET_EMISSIONS_KG]
    assert tags[Tag.FACTOR_BASIS].endswith("location-based")
    assert tags[Tag.MARKET_FACTOR] == "12.5"
    page = measuring.download_artifacts(run.info.run_id, Artifact.SUMMARY, str(tmp_path))
    assert "declared: Hydro 2026 &lt;b&gt;certificates&lt;/b&gt;" in Path(page).read_text()
    mlflow_carbon.enable(contract_g_per_kwh=12.5)
    nameless = measuring.get_run(worked("no contract named"))
    assert Metric.MARKET_EMISSIONS_KG not in ours(nameless)
    assert Tag.MARKET_FACTOR not in our_tags(nameless)


def test_sessions_of_a_run_whose_factors_mean_different_things_are_marked_as_mixed(
    measuring: MlflowClient,
) -> None:
    run_id = worked("moves")
    mlflow_carbon.disable()
    mlflow_carbon.enable(sample_period_s=0.05, region="US-CA")
    worked("moves", run_id)
    basis = our_tags(measuring.get_run(run_id))[Tag.FACTOR_BASIS]
    assert basis.startswith("mixed: lifecycle, annual average, location-based; direct, annual")


def test_doctor_says_which_place_was_found_and_why_and_what_is_asked_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told() -> dict[str, dict[str, str]]:
        output = CliRunner().invoke(doctor, ["--json"]).output
        return {check["area"]: check for check in json.loads(output)}

    monkeypatch.setenv("MLFLOW_CARBON_REGION", "aws/eu-west-3")
    found = told()
    assert "France" in found["region"]["found"] or "FR" in found["region"]["found"]
    assert "setting: set to 'aws/eu-west-3'" in found["region"]["found"]
    assert "live intensity" not in found
    monkeypatch.delenv("MLFLOW_CARBON_REGION")
    monkeypatch.setenv("TZ", "Europe/Rome")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("MLFLOW_CARBON_LIVE_INTENSITY", "electricity-maps")
    monkeypatch.setenv("MLFLOW_CARBON_LIVE_KEY", KEY)
    monkeypatch.setenv("MLFLOW_CARBON_CONTRACT_G_PER_KWH", "12")
    found = told()
    assert found["region"]["found"].startswith("Italy (guess: time zone Europe/Rome, shared by")
    assert "MLFLOW_CARBON_REGION" in found["region"]["todo"]
    assert "MLFLOW_CARBON_LIVE_ZONE" in found["live intensity"]["found"]
    assert found["contract factor"]["state"] == "note"
    assert KEY not in json.dumps(found)
