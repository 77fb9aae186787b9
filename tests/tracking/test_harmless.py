"""What could hurt a training program: forks, time limits, open files, disks, exit handlers, strict warnings."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_carbon.schema import Artifact, Metric, Param, Tag
from mlflow_carbon.tracking.edge import harmless
from tests.tracking.conftest import Finished, our_tags, ours
from tests.tracking.servers import Proxy, Server
from tests.tracking.test_processes import BURN, command, runs, spooled

Program = Callable[..., Finished]


def test_a_fork_while_the_spool_waits_for_a_slow_disk_does_not_hang_the_child(
    program: Program, store_uri: str
) -> None:
    done = program(
        """
import os, time, mlflow
from mlflow_carbon.tracking import spool
in_a_write, write = [], os.fdatasync
def slow(descriptor):
    in_a_write.append(descriptor)
    time.sleep(0.2)
    write(descriptor)
    in_a_write.clear()
os.fdatasync, spool.SYNC_PERIOD_S = slow, 0.0
with mlflow.start_run(run_name="forked"):
    for _ in range(3):
        while not in_a_write:
            time.sleep(0.001)
        child = os.fork()
        if child == 0:
            os._exit(7)
        for _ in range(1000):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.01)
        assert (ended, os.waitstatus_to_exitcode(status)) == (child, 7)
"""
    )
    assert done.code == 0, done.err
    assert our_tags(runs(store_uri)["forked"])[Tag.STATUS] == "measured"


class TimeUp(Exception):  # noqa: N818 (the user's)
    """What a time limit by SIGALRM raises, as most recipes have it: an ordinary exception."""


class Limit:
    """Such a handler, in three of the forms a program may give it."""

    def method(self, *_: object) -> None:
        raise TimeUp

    __call__ = method


@pytest.mark.parametrize(
    "handler",
    [Limit().method, Limit(), functools.partial(Limit.method, Limit())],
    ids=["method", "object", "partial"],
)
def test_what_a_signal_handler_of_the_user_raises_in_our_code_reaches_the_user(
    handler: Callable[..., None],
) -> None:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeUp), harmless("wait"):
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_time_limit_by_alarm_ends_the_wait_for_a_slow_server(
    program: Program, server: Server, environment: dict[str, str]
) -> None:
    proxy = Proxy(server.port)
    proxy.hold.clear()
    try:
        done = program(
            """
import signal, mlflow
class TimeUp(Exception):
    pass
def time_up(*_):
    raise TimeUp
signal.signal(signal.SIGALRM, time_up)
mlflow.start_run(run_name="limited")
signal.setitimer(signal.ITIMER_REAL, 1)
try:
    mlflow.end_run()
except TimeUp:
    print("in time")
""",
            MLFLOW_TRACKING_URI=proxy.uri,
        )
        proxy.hold.set()
        recovered = command(program, "recover")
    finally:
        proxy.close()
    assert done.out.splitlines()[-1:] == ["in time"], done.err
    assert recovered.code == 0, recovered.out
    assert our_tags(runs(server.uri)["limited"])[Tag.STATUS] == "measured"
    assert spooled(environment) == []


def test_hundreds_of_runs_open_at_once_leave_the_program_its_files(
    program: Program, store_uri: str
) -> None:
    done = program(
        """
import os, resource, mlflow
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("tests").experiment_id
made = [client.create_run(experiment, run_name=str(i)).info.run_id for i in range(260)]
print(len(os.listdir("/proc/self/fd")))
for run_id in (made[0], made[-1]):
    client.set_terminated(run_id)
os._exit(0)
"""
    )
    assert done.code == 0, done.err
    assert int(done.out.split()[-1]) < 128
    assert done.err.count("could not keep a spool file") == 1
    found = runs(store_uri)
    assert [our_tags(found[name])[Tag.EXIT] for name in ("0", "259")] == ["finished", "finished"]


def test_an_artifact_store_that_hangs_costs_no_more_files_and_recover_delivers_the_rest(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        """
import os, threading, mlflow
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository as Repository
Repository.log_artifact = lambda *_: threading.Event().wait()
from mlflow_carbon.tracking import recorder
recorder.FINAL_WAIT_S, recorder.FILES_MOST = 0.5, 8
for i in range(30):
    with mlflow.start_run(run_name=str(i)):
        pass
print(len(os.listdir("/proc/self/fd")))
"""
    )
    assert done.code == 0, done.err
    assert int(done.out.split()[-1]) < 40
    assert len(spooled(environment)) == 30
    recovered = command(program, "recover")
    assert recovered.code == 0, recovered.out
    found = runs(store_uri).values()
    assert {our_tags(run)[Tag.EXIT] for run in found} == {"finished"}
    assert all(Param.EVIDENCE_SHA256 in run.data.params for run in found)
    assert spooled(environment) == []


def test_what_an_exit_handler_of_the_user_does_to_its_run_is_part_of_its_record(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        BURN
        + """
import atexit, mlflow
def conclude():
    mlflow.log_metric("final", 1)
    mlflow.end_run("FAILED")
atexit.register(conclude)
mlflow.start_run(run_name="closed late")
burn(0.2)
"""
    )
    assert (done.code, done.err) == (0, "")
    run = runs(store_uri)["closed late"]
    assert (run.info.status, our_tags(run)[Tag.STATUS]) == ("FAILED", "measured")
    assert run.data.metrics["final"] == 1
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert spooled(environment) == []


def test_a_program_that_leaves_by_os_exit_is_completed_by_recover(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        BURN + "import mlflow, os\nmlflow.start_run(run_name='left')\nburn(0.5)\nos._exit(3)\n"
    )
    assert done.code == 3
    assert len(spooled(environment)) == 1
    assert command(program, "recover").code == 0
    run = runs(store_uri)["left"]
    assert our_tags(run)[Tag.STATUS] == "truncated"
    assert ours(run)[Metric.ENERGY_KWH] > 0


def test_pools_of_every_start_method_work_on_a_run_that_is_counted_once(
    program: Program, store_uri: str, work: Path
) -> None:
    (work / "jobs.py").write_text(
        "import mlflow\n"
        "def job(run_id):\n"
        "    mlflow.MlflowClient().log_metric(run_id, 'from_worker', 1)\n"
    )
    done = program(
        """
import multiprocessing, os, sys
sys.path.insert(0, os.getcwd())
import mlflow
from jobs import job
if __name__ == "__main__":
    for how in ("fork", "forkserver"):
        with mlflow.start_run(run_name=how) as run:
            with multiprocessing.get_context(how).Pool(2) as pool:
                pool.map(job, [run.info.run_id] * 4)
""",
        PYTHONPATH=str(work),
    )
    assert done.code == 0, done.err
    found = runs(store_uri)
    for how in ("fork", "forkserver"):
        assert our_tags(found[how])[Tag.STATUS] == "measured"
        assert Param.EVIDENCE_SHA256 + ".2" not in found[how].data.params
        assert found[how].data.metrics["from_worker"] == 1


def test_with_warnings_as_errors_and_clients_copied_and_pickled_nothing_is_heard_of_us(
    program: Program, store_uri: str
) -> None:
    done = program(
        """
import copy, pickle, warnings
import cloudpickle, mlflow, numpy, sqlalchemy.exc
warnings.simplefilter("error")
warnings.simplefilter("ignore", sqlalchemy.exc.SADeprecationWarning)  # MLflow's own store
client = mlflow.MlflowClient("http://127.0.0.1:9")
with mlflow.start_run(run_name="strict") as run:
    for copied in (copy.deepcopy(client), pickle.loads(pickle.dumps(client))):
        assert copied.tracking_uri == client.tracking_uri
    cloudpickle.loads(cloudpickle.dumps(lambda: (mlflow.log_metric, client)))
    mlflow.log_metric("loss", 1)
    mlflow.log_input(mlflow.data.from_numpy(numpy.arange(9.0), name="nine"))
"""
    )
    assert (done.code, done.out, done.err) == (0, "", "")
    assert our_tags(runs(store_uri)["strict"])[Tag.STATUS] == "measured"


def test_where_nothing_can_be_written_the_record_still_reaches_the_run_whole(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    """A container whose file system is read-only, without a folder for temporary files, and no home."""
    nowhere = {"XDG_STATE_HOME": "/proc/none", "HOME": "/proc/none"}
    done = program(
        BURN
        + """
import os, tempfile, mlflow
del os.environ["HOME"], os.environ["XDG_STATE_HOME"]
os.environ["MLFLOW_CARBON_SPOOL_DIR"] = "/proc/none"
def none_usable():
    raise FileNotFoundError("No usable temporary directory")
tempfile.gettempdir = tempfile._get_default_tempdir = none_usable
with mlflow.start_run(run_name="read-only") as run:
    burn(0.3)
""",
        **nowhere,
    )
    assert (done.code, done.err) == (0, "")
    run = runs(store_uri)["read-only"]
    assert our_tags(run)[Tag.STATUS] == "measured"
    artifacts = MlflowClient(store_uri).list_artifacts(run.info.run_id, "mlflow_carbon")
    assert Artifact.EVIDENCE in {artifact.path for artifact in artifacts}


def test_a_thread_of_ours_imports_nothing_as_the_users_imports_could_wait_for_it_for_good(
    interpreter: Program, store_uri: str
) -> None:
    """MLflow's import hook takes a lock under Python's own, and MLflow imports while it holds that lock."""
    done = interpreter(
        """
import sys, threading, time
class Spy:
    def find_spec(self, name, path=None, target=None):
        thread = threading.current_thread().name
        if thread.startswith("mlflow-carbon"):
            print(thread, name)
import mlflow, pandas
mlflow.set_experiment("imports")
sys.meta_path.insert(0, Spy())
with mlflow.start_run(run_name="spied"):
    mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"a": [1, 2]}), name="d"), "training")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        mlflow.log_metric("x", 1.0)
        time.sleep(0.05)
    # what writes the files of the record waits below, where the user's thread waits for it
    print("ending")
""",
        MLFLOW_CARBON_PUBLISH_PERIOD_S="1",
    )
    assert done.code == 0, done.err
    assert our_tags(runs(store_uri)["spied"])[Tag.STATUS] == "measured"
    before, _, _ = done.out.partition("ending")
    assert before == ""
