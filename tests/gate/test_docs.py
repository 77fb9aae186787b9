"""What docs/gate.md shows is run, not believed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import yaml
from mlflow import MlflowClient

from mlflow_carbon.policy.load import load_pack
from tests.gate import policy_files
from tests.gate.conftest import seed

PAGE = (Path(__file__).parents[2] / "docs" / "gate.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_gate_section_shown_is_a_sound_one(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks("yaml") if block.startswith("gate:\n  aliases"))
    head, rest = policy_files.REVIEWED.split("gate:", 1)
    text = head + shown + "rules:" + rest.split("rules:", 1)[1]
    pack = load_pack(str(policy_files.write(tmp_path, text)))
    assert pack.gate is not None
    assert pack.gate.approvers == ("bob", "zoe")


def test_the_ci_jobs_shown_do_what_they_say(open_store: Callable[[], str], tmp_path: Path) -> None:
    uri = open_store()
    seed(MlflowClient(uri, uri), "credit")
    jobs = [yaml.safe_load(block) for block in blocks("yaml")]
    (github,) = (job["jobs"]["gate"]["steps"] for job in jobs if "jobs" in job)
    (gitlab,) = (job["gate"]["script"] for job in jobs if "script" in job.get("gate", {}))
    lines = [step["run"] for step in github if "run" in step] + gitlab
    checks = [line for line in lines if line.startswith("mlflow-carbon ")]
    assert len(checks) == 2
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": uri,
        "VERSION": "1",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    for line in checks:
        done = subprocess.run(
            ["bash", "-ec", line],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "May not be promoted: credit version 1" in done.stdout
        suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
        assert int(suite.get("failures", "0")) > 0
        (tmp_path / "gate.xml").unlink()
    assert "may not be promoted" in (tmp_path / "summary.md").read_text()
