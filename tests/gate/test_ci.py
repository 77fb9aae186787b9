"""The jobs in examples/ci: sound for the systems they are for, and their commands do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.gate.conftest import Api, Server

JOBS = Path(__file__).parents[2] / "examples" / "ci"
SCHEMAS = {"github-actions.yml": "github-workflows", "gitlab-ci.yml": "gitlab-ci"}


def commands(file: str) -> list[str]:
    """What the job runs, without installing us."""
    gate = yaml.safe_load((JOBS / file).read_text())
    if "jobs" in gate:
        lines = [step["run"] for step in gate["jobs"]["gate"]["steps"] if "run" in step]
    else:
        lines = [*gate["gate"]["before_script"], *gate["gate"]["script"]]
    installs = [line for line in lines if line.startswith("pip install")]
    assert installs == ["pip install mlflow-carbon"]
    return [line for line in lines if line not in installs]


def test_every_job_is_one_of_its_systems_schema() -> None:
    assert {path.name for path in JOBS.iterdir()} == SCHEMAS.keys()
    for file, schema in SCHEMAS.items():
        words = ["check-jsonschema", "--builtin-schema", f"vendor.{schema}", str(JOBS / file)]
        done = subprocess.run(
            [Path(sys.executable).with_name(words[0]), *words[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", SCHEMAS)
def test_a_job_promotes_what_passes_and_fails_on_what_does_not(
    server: Server, file: str, tmp_path: Path
) -> None:
    api, model = Api(server.url), f"job-{file.split('-')[0]}"
    for passes in (False, True):
        api.seed(model, passes=passes)
        # As both systems run them: one shell, which ends with the first command that fails.
        done = subprocess.run(
            ["bash", "-ec", "\n".join(commands(file))],
            env=os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "MLFLOW_TRACKING_URI": server.url,
                "MODEL": model,
                "VERSION": "2" if passes else "1",
                "POLICY": str(server.policy),
                "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
        failures = int(suite.get("failures", "0"))
        if passes:
            assert (done.returncode, failures) == (0, 0), done.stderr
            assert api.aliases(model) == {"champion": "2"}
        else:
            assert (done.returncode, failures > 0) == (1, True), done.stderr
            assert f"May not be promoted: {model} version 1" in done.stdout
            assert api.aliases(model) == {}
    if file == "github-actions.yml":
        assert "may be promoted" in (tmp_path / "summary.md").read_text()
