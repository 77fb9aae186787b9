"""What ``mlflow-carbon doctor`` tells of the settings."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_carbon.cli.doctor import command
from mlflow_carbon.settings import Settings


def test_each_setting_is_shown_with_its_value_and_where_it_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.mlflow-carbon]\nregion = "DE"\npue = 1.2\nowner = "team-risk"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CARBON_REGION", "FR")
    monkeypatch.setenv("MLFLOW_CARBON_REGOIN", "IT")
    checks = json.loads(CliRunner().invoke(command, ["--json"]).output)
    told = {check["area"]: check["found"] for check in checks}
    assert told["setting region"] == "FR (environment MLFLOW_CARBON_REGION)"
    assert told["setting pue"] == f"1.2 ({tmp_path}/pyproject.toml [tool.mlflow-carbon] pue)"
    assert "sample_period_s = 1.0" in told["settings by default"]
    shown = {area.removeprefix("setting ") for area in told if area.startswith("setting ")}
    by_default = {part.partition(" = ")[0] for part in told["settings by default"].split(", ")}
    assert shown | by_default >= {field.name for field in fields(Settings)}
    (unknown,) = [check for check in checks if check["area"] == "setting"]
    assert "MLFLOW_CARBON_REGOIN sets nothing" in unknown["found"]
    assert unknown["todo"] == "Did you mean 'MLFLOW_CARBON_REGION'?"


def test_a_setting_that_cannot_be_used_is_the_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow-carbon.toml").write_text('regoin = "FR"\n')
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["--json"])
    (problem,) = [check for check in json.loads(done.output) if check["area"] == "settings"]
    assert done.exit_code == 1
    assert "Did you mean 'region'?" in problem["found"]
