"""The demo as its user meets it: one command, the three jobs, a clean directory, again."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_carbon.schema import InputTag, Metric, Param, Tag

pytestmark = pytest.mark.timeout(900)  # two demos, each about a minute on a machine of its own


@dataclass(frozen=True)
class Shown:
    folder: Path
    output: str

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'demo' / 'mlflow.db'}"


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "mlflow_carbon.cli", "demo", "--out", "demo"],
        cwd=folder,
        env=clean | {"MLFLOW_DISABLE_TELEMETRY": "true", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The demo, run twice in one folder: the second time is what the tests look at."""
    folder = tmp_path_factory.mktemp("user")
    for _ in range(2):
        done = run_demo(folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return Shown(folder, done.stdout)


@pytest.fixture(scope="module")
def runs(shown: Shown) -> list[Run]:
    client = MlflowClient(shown.store)
    experiment = client.get_experiment_by_name("tumor-screening")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_everything_is_written_below_the_folder_named(shown: Shown) -> None:
    assert [path.name for path in shown.folder.iterdir()] == ["demo"]
    assert {"mlflow.db", "report", "artifacts"} <= {
        p.name for p in (shown.folder / "demo").iterdir()
    }


def test_every_run_ends_with_energy_carbon_and_how_they_came_about(runs: list[Run]) -> None:
    assert sorted(run.info.run_name for run in runs) == [
        *("trial-1", "trial-2", "trial-3", "trial-4", "tumor-screening"),
    ]
    for run in runs:
        figures, tags = run.data.metrics, run.data.tags
        assert (
            0
            < figures[Metric.ENERGY_KWH_LOW]
            < figures[Metric.ENERGY_KWH]
            < figures[Metric.ENERGY_KWH_HIGH]
        )
        assert 0 < figures[Metric.EMISSIONS_KG_LOW] < figures[Metric.EMISSIONS_KG]
        assert tags[Tag.METHOD] in {"counter", "sampled", "modelled"}
        assert {
            Tag.FACTOR,
            Tag.FACTOR_SOURCE,
            Tag.FACTOR_YEAR,
            Tag.FACTOR_LICENSE,
            Tag.REGION,
        } <= set(tags)
        assert len(run.data.params[Param.EVIDENCE_SHA256]) == 64


def test_every_dataset_has_its_content_hash_and_row_count(runs: list[Run]) -> None:
    used = [
        {tag.key: tag.value for tag in item.tags}
        for run in runs
        for item in run.inputs.dataset_inputs
    ]
    assert len(used) >= 8
    assert all(len(tags[InputTag.SHA256]) == 64 and int(tags[InputTag.ROWS]) > 100 for tags in used)


def test_a_failed_trial_keeps_its_status_and_its_energy(runs: list[Run]) -> None:
    (failed,) = [run for run in runs if run.info.status == "FAILED"]
    assert failed.info.run_name == "trial-3"
    assert failed.data.metrics[Metric.ENERGY_KWH] > 0


def test_the_report_shows_passes_failures_and_missing_evidence(shown: Shown) -> None:
    report = shown.folder / "demo" / "report"
    assert {"report.html", "report.json", "report.pdf"} <= {path.name for path in report.iterdir()}
    assert (report / "report.pdf").read_bytes().startswith(b"%PDF-")
    states = {
        finding["state"] for finding in json.loads((report / "report.json").read_text())["findings"]
    }
    assert {"pass", "fail", "no_evidence"} <= states


def test_the_alias_is_refused_with_its_rules_and_allowed_once_the_evidence_is_there(
    shown: Shown,
) -> None:
    refused, allowed = shown.output.split("The same promotion again")
    assert "'champion'" in refused
    assert "refused" in refused
    assert "DAT-003" in refused
    assert "version 1 of tumor-screening is champion" in allowed
    model = MlflowClient(shown.store).get_registered_model("tumor-screening")
    assert {alias: str(version) for alias, version in model.aliases.items()} == {"champion": "1"}


def test_it_ends_with_the_paths_it_wrote_and_three_commands_to_try(shown: Shown) -> None:
    end = shown.output.split("\nWritten\n")[1]
    for name in ("report.pdf", "report.html", "report.json", "mlflow.db"):
        assert f"demo/{name}" in end or f"demo/report/{name}" in end
    assert end.split("Try next")[1].count("  $ ") == 3


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo" / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = run_demo(tmp_path)
    assert done.returncode == 4
    assert "left alone" in done.stderr
    assert mine.read_text() == "mine"
    assert "Traceback" not in done.stderr
