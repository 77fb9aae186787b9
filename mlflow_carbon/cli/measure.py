"""``mlflow-carbon measure -- CMD``: measure a program that MLflow does not see, as one run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from mlflow_carbon import settings
from mlflow_carbon.errors import CarbonError, SettingsError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--experiment", metavar="NAME", help="Experiment of the new run; made if need be.")
@click.option("--run-name", metavar="NAME", help="Name of the new run; default: the program's.")
@click.option("--run-id", metavar="ID", help="Measure into this run instead of a new one.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    experiment: str | None, run_name: str | None, run_id: str | None, program: tuple[str, ...]
) -> None:
    """Run PROGRAM and record its energy, carbon and exit on an MLflow run.

    For programs in any language, and for launchers such as torchrun or mpirun. The run's id is handed
    down in MLFLOW_RUN_ID: a Python program that uses MLflow logs to the same run, counted once.

    On several hosts start it on each (srun, mpirun; or say how many in MLFLOW_CARBON_NODES) with one
    run's id in MLFLOW_RUN_ID: the run gets the sum, and says which hosts gave no figures.
    The exit code is the program's.
    """
    if shutil.which(program[0]) is None:
        raise CarbonError(f"{program[0]}: there is no such program. Check its name and PATH.")
    joined = _run_of_the_first_host(run_id or settings.inherited_run_id())
    from mlflow_carbon.switch import may_measure
    from mlflow_carbon.tracking import hooks

    if not (may_measure() and hooks.install(run_id=joined)):
        raise SettingsError(
            "measuring is switched off by MLFLOW_CARBON_ENABLED. Unset it to measure a program."
        )
    if joined is None:
        sys.exit(_measured(program, experiment, run_name, run_id))
    code = _ran(program, joined)
    hooks.uninstall()
    sys.exit(code)


def _run_of_the_first_host(run_id: str | None) -> str | None:
    """The run to join on all hosts of a job but the first, which makes it or ends it; ``None`` there."""
    from mlflow_carbon.tracking.ranks import place_of

    place = place_of(settings.load())
    if place is None or place.first:
        return None
    if not run_id:
        raise CarbonError(
            f"this is host {place.index} of {place.nodes}, and which run it works on is not said."
            " Make one run before the job starts and give its id to all hosts, in MLFLOW_RUN_ID or by --run-id."
        )
    return run_id


def _measured(
    program: tuple[str, ...], experiment: str | None, run_name: str | None, run_id: str | None
) -> int:
    import mlflow

    if experiment:
        mlflow.set_experiment(experiment)
    # The run is ours from here on, so that the program's own start_run() follows.
    with mlflow.start_run(run_id=run_id, run_name=run_name or program[0]) as active:
        run_id = active.info.run_id
        # Not the whole line: arguments may hold passwords.
        mlflow.set_tag("mlflow.source.name", program[0])
        code = _ran(program, run_id)
        mlflow.end_run(_status(code))
    return code


def _status(code: int) -> str:
    if code == 0:
        return "FINISHED"
    return "KILLED" if code > 128 else "FAILED"


def _ran(program: tuple[str, ...], run_id: str) -> int:
    """The program's exit code as a shell gives it: 128 + signal when a signal ended it."""
    environment = settings.inherited_environment(MLFLOW_RUN_ID=run_id)
    # The program is the one the user typed after our own name, and no shell reads it.
    child = subprocess.Popen(program, env=environment)  # noqa: S603
    with child, _signals_to(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """SIGTERM goes on to the program; Ctrl-C reaches it by itself. We stay to record how it ended."""

    def forward(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
