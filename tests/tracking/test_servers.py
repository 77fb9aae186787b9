"""Programs that log to a real ``mlflow server``: as it should be, slow, refusing, down."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_carbon.schema import Artifact, Metric, Param, Tag
from tests.tracking.conftest import Finished, our_tags, ours
from tests.tracking.servers import Proxy, Server, self_signed
from tests.tracking.test_processes import BURN, command, runs, spooled

Program = Callable[..., Finished]

QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}


def script(name: str, middle: str = "burn(0.2)") -> str:
    """A program with one run."""
    return (
        BURN
        + f"""
import mlflow
with mlflow.start_run(run_name={name!r}):
    mlflow.log_metric("loss", 0.1)
    {middle}
"""
    )


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the server."""
    started = Proxy(server.port)
    yield started
    started.close()


def test_a_run_on_a_server_carries_figures_and_seal_and_the_server_measures_nothing(
    program: Program,
    server: Server,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # where MLflow 2 looks for artifacts
    done = program(script("over http"), MLFLOW_TRACKING_URI=server.uri)
    assert done.code == 0, done.err
    run = runs(server.uri)["over http"]
    assert our_tags(run)[Tag.STATUS] == "measured"
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert Param.EVIDENCE_SHA256 in run.data.params
    client = MlflowClient(server.uri)
    assert len(client.get_metric_history(run.info.run_id, Metric.ENERGY_KWH)) == 1
    artifacts = {a.path for a in client.list_artifacts(run.info.run_id, "mlflow_carbon")}
    assert artifacts == {"mlflow_carbon/evidence.json", "mlflow_carbon/summary.html"}
    assert spooled(environment) == []


def test_a_slow_server_holds_up_the_end_of_a_run_by_five_seconds_at_most(
    program: Program, server: Server, proxy: Proxy, environment: dict[str, str]
) -> None:
    proxy.hold.clear()
    done = program(
        script("slow")
        .replace("import mlflow\n", "import mlflow, time\n")
        .replace("    burn(0.2)", "    burn(0.2)\n    start = time.monotonic()")
        + "print(time.monotonic() - start)",
        MLFLOW_TRACKING_URI=proxy.uri,
    )
    proxy.hold.set()
    assert done.code == 0, done.err
    assert 4.5 < float(done.out.splitlines()[-1]) < 9
    assert runs(server.uri)["slow"].info.status == "FINISHED"
    recovered = command(program, "recover", MLFLOW_TRACKING_URI=server.uri)
    assert (recovered.code, recovered.out.split()[0]) == (0, "delivered"), recovered
    assert our_tags(runs(server.uri)["slow"])[Tag.STATUS] == "measured"
    assert spooled(environment) == []


def test_a_server_that_says_too_many_requests_is_asked_again(
    program: Program, server: Server, proxy: Proxy
) -> None:
    proxy.refusals.append(429)
    done = program(script("throttled"), MLFLOW_TRACKING_URI=proxy.uri)
    assert done.code == 0, done.err
    assert proxy.refused == 1
    assert our_tags(runs(server.uri)["throttled"])[Tag.STATUS] == "measured"


def test_a_run_whose_server_went_away_is_kept_and_delivered_when_it_is_back(
    program: Program, server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    away, back = tmp_path / "away", tmp_path / "back"
    source = script(
        "server gone",
        f"open({str(away)!r}, 'w').close()\n"
        "    import os\n"
        f"    while not os.path.exists({str(back)!r}): burn(0.05)",
    )
    finished: list[Finished] = []
    thread = threading.Thread(
        target=lambda: finished.append(program(source, MLFLOW_TRACKING_URI=server.uri, **QUICK))
    )
    thread.start()
    deadline = time.monotonic() + 60
    while not away.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.stop()
    back.touch()
    thread.join()
    assert finished[0].code != 0  # MLflow itself cannot end the run without its server
    assert "mlflow.exceptions.MlflowException: API request" in finished[0].err
    assert len(spooled(environment)) == 1
    down = command(program, "recover", MLFLOW_TRACKING_URI=server.uri)
    assert down.code == 4
    assert "no MLflow server answers" in down.out
    server.start()
    up = command(program, "recover", MLFLOW_TRACKING_URI=server.uri)
    assert up.code == 0, up.out + up.err
    run = runs(server.uri)["server gone"]
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert our_tags(run)[Tag.STATUS] == "measured"
    assert spooled(environment) == []


def test_a_server_that_is_away_for_a_while_in_the_middle_of_a_run_costs_nothing(
    program: Program, server: Server, proxy: Proxy, environment: dict[str, str]
) -> None:
    proxy.refusals += [503] * 3  # figures of three moments; MLflow itself is told to try once
    done = program(
        script(
            "away meanwhile",
            "run_id = mlflow.active_run().info.run_id\n"
            "    while 'carbon/energy_kwh' not in mlflow.get_run(run_id).data.metrics:\n"
            "        burn(0.1)",
        ),
        MLFLOW_TRACKING_URI=proxy.uri,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_CARBON_PUBLISH_PERIOD_S="0.3",
    )
    assert done.code == 0, done.err
    assert proxy.refused == 3
    assert done.err.count("mlflow-carbon could not write to MLflow") == 1
    run = runs(server.uri)["away meanwhile"]
    assert our_tags(run)[Tag.STATUS] == "measured"
    assert Param.EVIDENCE_SHA256 in run.data.params
    assert spooled(environment) == []


def test_a_server_that_is_down_from_the_start_gives_mlflows_own_error_and_nothing_of_ours(
    program: Program, environment: dict[str, str]
) -> None:
    done = program(
        script("never"), MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_RUN_ID="f" * 32, **QUICK
    )
    assert done.code == 1
    assert "mlflow.exceptions.MlflowException: API request" in done.err
    assert "mlflow-carbon could not" not in done.err
    assert spooled(environment) == []


def test_a_certificate_that_is_refused_at_the_end_leaves_the_record_to_recover(
    program: Program, server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    proxy = Proxy(server.port, self_signed(tmp_path / "server.pem"))
    trusting = {"MLFLOW_TRACKING_URI": proxy.uri, "MLFLOW_TRACKING_INSECURE_TLS": "true"}
    try:
        refused = program(
            script(
                "distrusted", "burn(0.2)\n    os.environ.pop('MLFLOW_TRACKING_INSECURE_TLS')"
            ).replace("import mlflow\n", "import mlflow, os\n"),
            **trusting,
            **QUICK,
        )
        left = spooled(environment)
        still_refused = command(program, "recover", MLFLOW_TRACKING_URI=proxy.uri, **QUICK)
        recovered = command(program, "recover", **trusting)
    finally:
        proxy.close()
    assert "CERTIFICATE_VERIFY_FAILED" in refused.err  # MLflow's own: it cannot end the run either
    assert len(left) == 1
    assert still_refused.code == 4
    assert recovered.code == 0, recovered.out + recovered.err
    assert our_tags(runs(server.uri)["distrusted"])[Tag.STATUS] == "measured"
    assert spooled(environment) == []


LIMITED = "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))"
"""A limit on the size of files, as a quota is: the kernel refuses to append."""

SMALL = """
import ctypes, os, subprocess
ids = {"uid_map": f"0 {os.getuid()} 1", "setgroups": "deny", "gid_map": f"0 {os.getgid()} 1"}
assert ctypes.CDLL(None).unshare(0x10000000 | 0x20000) == 0  # CLONE_NEWUSER | CLONE_NEWNS
for name, text in ids.items():
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
os.makedirs(os.environ["MLFLOW_CARBON_SPOOL_DIR"])
mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", os.environ["MLFLOW_CARBON_SPOOL_DIR"]]
subprocess.run(mount, check=True)
def fill():
    with open(os.environ["MLFLOW_CARBON_SPOOL_DIR"] + "/others", "wb", 0) as others:
        try:
            while True:
                others.write(bytes(512))
        except OSError:
            pass
"""
"""A disk of 64 kB, in a mount namespace of the program's own."""


def may_mount() -> bool:
    """Whether the system lets an ordinary user make such a disk: many containers do not."""
    unshare = shutil.which("unshare")
    return (
        unshare is not None and not subprocess.run([unshare, "-rm", "true"], check=False).returncode
    )


@pytest.mark.parametrize(
    "how",
    [("", LIMITED), *([(SMALL, "fill()")] if may_mount() else [])],
    ids=lambda how: "small-disk" if how[0] else "limit",
)
def test_a_spool_that_fills_up_costs_nothing_but_the_safety_net(
    program: Program,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: tuple[str, str],
) -> None:
    before, fill = how
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # where MLflow 2 looks for artifacts
    name = f"full by {fill}"
    done = program(
        before
        + script(name, f"{fill}\n    burn(4)").replace(
            "import mlflow\n", "import mlflow, resource\n"
        ),
        MLFLOW_TRACKING_URI=server.uri,
        MLFLOW_CARBON_SAMPLE_PERIOD_S="0.02",
        MLFLOW_CARBON_SPOOL_DIR=str(tmp_path / "spool"),
    )
    assert done.code == 0, done.err
    assert done.err.count("could not keep a spool file") == 1
    run = runs(server.uri)[name]
    assert run.info.status == "FINISHED"
    assert our_tags(run)[Tag.STATUS] == "measured"
    assert ours(run)[Metric.ENERGY_KWH] > 0
    evidence = MlflowClient(server.uri).download_artifacts(
        run.info.run_id, Artifact.EVIDENCE, str(tmp_path)
    )
    assert "could not keep a spool file" in Path(evidence).read_text()
    assert list((tmp_path / "spool").glob("*.run")) == []


def test_the_launcher_hands_on_the_programs_exit_code_while_the_server_is_down(
    program: Program, server: Server, environment: dict[str, str], work: Path
) -> None:
    def measure(*arguments: str) -> Finished:
        return command(program, "measure", *arguments, MLFLOW_TRACKING_URI=server.uri, **QUICK)

    wrong = measure("--run-id", "0" * 32, "--", "/bin/sh", "-c", "echo worked")
    assert (wrong.code, wrong.out) == (2, "")
    assert "0" * 32 in wrong.err
    with ThreadPoolExecutor() as pool:
        waits = "touch begun; while [ ! -e go ]; do sleep 0.1; done; exit 6"
        cut = pool.submit(measure, "--run-name", "cut", "--", "/bin/sh", "-c", waits)
        while not (work / "begun").exists():
            time.sleep(0.05)
        server.stop()
        (work / "go").touch()
        ended = cut.result()
    away = measure("--", "/bin/sh", "-c", "echo worked; exit 7")
    server.start()
    assert ended.code == 6, ended.err
    assert "mlflow-carbon recover" in ended.err
    assert (away.code, away.out) == (7, "worked\n"), away.err
    assert "/bin/sh is not measured" in away.err
    assert not any("Traceback" in done.err for done in (wrong, ended, away))
    assert command(program, "recover", "--end-runs").code == 0
    run = runs(server.uri)["cut"]
    assert (run.info.status, our_tags(run)[Tag.EXIT]) == ("FAILED", "failed")
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert spooled(environment) == []
