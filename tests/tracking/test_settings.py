"""Where settings come from, which wins, and what is said about those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_carbon import settings
from mlflow_carbon.errors import SettingsError
from tests.tracking.conftest import Finished


def project(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    (folder / name).write_text(text)
    return folder


def test_the_environment_wins_over_the_projects_file_and_the_file_over_defaults(
    tmp_path: Path,
) -> None:
    project(tmp_path, '[tool.mlflow-carbon]\nregion = "DE"\nproject = "credit"\n')
    found = settings.load({"MLFLOW_CARBON_REGION": "FR"}, folder=tmp_path)
    assert (found.region, found.project, found.owner) == ("FR", "credit", None)


def test_explain_names_the_source_of_each_value(tmp_path: Path) -> None:
    project(tmp_path, '[tool.mlflow-carbon]\nregion = "DE"\n')
    told = {e.name: e for e in settings.explain({"MLFLOW_CARBON_PUE": "1.2"}, folder=tmp_path)}
    assert told["region"].value == "DE"
    assert told["region"].source == f"{tmp_path}/pyproject.toml [tool.mlflow-carbon] region"
    assert (told["pue"].value, told["pue"].source) == (1.2, "environment MLFLOW_CARBON_PUE")
    assert told["sample_period_s"].source == "default"


def test_a_file_of_our_own_wins_over_pyproject_and_needs_no_table(tmp_path: Path) -> None:
    project(tmp_path, '[tool.mlflow-carbon]\nregion = "DE"\n')
    project(tmp_path, 'region = "FR"\n', "mlflow-carbon.toml")
    assert settings.load({}, folder=tmp_path).region == "FR"


def test_the_nearest_project_upwards_counts_and_another_repository_never(tmp_path: Path) -> None:
    project(tmp_path, '[tool.mlflow-carbon]\nregion = "DE"\n')
    inside = tmp_path / "training" / "scripts"
    inside.mkdir(parents=True)
    assert settings.load({}, folder=inside).region == "DE"
    (inside / ".git").mkdir()
    assert settings.load({}, folder=inside).region is None


def test_a_pyproject_without_our_table_is_passed_over(tmp_path: Path) -> None:
    project(tmp_path, '[tool.mlflow-carbon]\nregion = "DE"\n')
    inside = tmp_path / "package"
    inside.mkdir()
    project(inside, "[tool.other]\nx = 1\n")
    assert settings.load({}, folder=inside).region == "DE"


def test_paths_in_a_file_start_at_the_file(tmp_path: Path) -> None:
    project(tmp_path, '[tool.mlflow-carbon]\ndataset_cards = "cards"\n')
    assert settings.load({}, folder=tmp_path).dataset_cards == tmp_path / "cards"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('regoin = "FR"', "regoin: there is no such setting. Did you mean 'region'?"),
        ("region = 3", "region = 3 must be text"),
        ('pue = "1.2"', "pue = '1.2' must be a number"),
        ("pue = 0.5", "must be a finite number, at least 1"),
        ("enabled = 1", "enabled = 1 must be true or false"),
        ('spool_dir = "/tmp/x"', "is set by MLFLOW_CARBON_SPOOL_DIR only"),
        ('gate_policy = "x"', "is set by MLFLOW_CARBON_GATE_POLICY only"),
        ("region = ", "mlflow-carbon.toml"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place_and_what_to_do(
    tmp_path: Path, text: str, message: str
) -> None:
    project(tmp_path, text, "mlflow-carbon.toml")
    with pytest.raises(SettingsError) as refused:
        settings.load({}, folder=tmp_path)
    assert message in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_table_that_is_no_table_is_refused(tmp_path: Path) -> None:
    project(tmp_path, "[tool]\nmlflow-carbon = 3 # tool.mlflow-carbon\n")
    with pytest.raises(SettingsError, match="is not a table"):
        settings.load({}, folder=tmp_path)


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="neither true nor false"):
        settings.load({"MLFLOW_CARBON_ENABLED": value})


@pytest.mark.parametrize("value", ["", "nan", "inf", "-1", "much"])
def test_a_number_that_cannot_be_used_is_refused_and_nothing_is_nothing(value: str) -> None:
    environ = {"MLFLOW_CARBON_SAMPLE_PERIOD_S": value}
    if not value:
        assert settings.load(environ).sample_period_s == 1.0
        return
    with pytest.raises(SettingsError, match="MLFLOW_CARBON_SAMPLE_PERIOD_S"):
        settings.load(environ)


def test_labels_come_from_the_projects_file_or_the_environment(tmp_path: Path) -> None:
    labels = 'phase = "training"\nintended_use = "credit scoring"\nowner = "team-risk"\n'
    project(tmp_path, f"[tool.mlflow-carbon]\n{labels}")
    found = settings.load({"MLFLOW_CARBON_OWNER": "Ada"}, folder=tmp_path)
    assert (found.phase, found.intended_use, found.owner) == ("training", "credit scoring", "Ada")


def test_settings_in_code_are_checked_like_any_other() -> None:
    assert settings.checked({"pue": 1, "region": "FR"}) == {"pue": 1.0, "region": "FR"}
    with pytest.raises(SettingsError, match="Did you mean 'region'"):
        settings.checked({"regoin": "FR"})
    with pytest.raises(SettingsError, match="must be text"):
        settings.checked({"region": 3})


def test_variables_that_set_nothing_are_named_with_a_suggestion() -> None:
    found = settings.unknown_variables({"MLFLOW_CARBON_REGOIN": "FR", "MLFLOW_CARBON_PUE": "1.2"})
    assert found == {"MLFLOW_CARBON_REGOIN": "Did you mean 'MLFLOW_CARBON_REGION'?"}


def test_a_misspelt_variable_is_told_in_the_log_when_the_first_run_starts_and_is_harmless(
    program: Callable[..., Finished],
) -> None:
    done = program(
        "import mlflow\nfor _ in range(2):\n    with mlflow.start_run(): pass\n",
        MLFLOW_CARBON_REGOIN="secret",
        MLFLOW_CARBON_SPEED="9",
    )
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if "sets nothing" in line]
    assert len(told) == 2
    assert "MLFLOW_CARBON_REGOIN sets nothing. Did you mean 'MLFLOW_CARBON_REGION'?" in told[0]
    assert "MLFLOW_CARBON_SPEED sets nothing." in told[1]
    assert "secret" not in done.err
