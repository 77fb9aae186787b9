"""Install the built wheel into an empty environment, outside the checkout, and use it there as a user would."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

POLICY = """\
apiVersion: mlflow-carbon/v1
kind: PolicyPack
metadatum: {}
"""


def run(command: list[str], folder: Path, expect: int = 0) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    env |= {"XDG_STATE_HOME": str(folder / "state"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    print("$", " ".join(command), f"-> {done.returncode}", flush=True)
    if done.returncode != expect:
        sys.exit(f"expected exit code {expect}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([str(uv), "venv", "--quiet", "--python", sys.executable, "env"], folder)
        python, tool = folder / "env/bin/python", folder / "env/bin/mlflow-carbon"
        run([str(uv), "pip", "install", "--quiet", "--python", str(python), str(wheel)], folder)
        run([str(tool), "--version"], folder)
        assert "baseline" in run([str(tool), "policy", "list"], folder)
        (folder / "bad.yaml").write_text(POLICY)
        refused = run([str(tool), "policy", "check", "bad.yaml"], folder, expect=2)
        assert "bad.yaml:3:1" in refused, refused
        assert "Did you mean" in refused, refused
        run([str(tool), "doctor"], folder)
        run([str(tool), "demo", "--out", "demo"], folder)
        report = folder / "demo" / "report"
        made = sorted(path.name for path in report.iterdir())
        assert {"report.html", "report.json"} <= set(made), made
        left = {path.name for path in folder.iterdir()} - {"env", "demo", "bad.yaml", "state"}
        assert not left, f"the working directory is not clean: {left}"
    print("the wheel works in an empty environment")


main()
