"""``mlflow-carbon measure -- CMD``: measure a program that MLflow does not see, as one run."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from mlflow_carbon import settings
from mlflow_carbon.errors import CarbonError, SettingsError
from mlflow_carbon.tracking.edge import describe


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
    Signals reach the program. The exit code is the program's, also where MLflow is away.
    """
    if shutil.which(program[0]) is None:
        raise CarbonError(_why_not(program[0]))
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


def _why_not(program: str) -> str:
    path = Path(program)
    if "/" in program and path.is_file():
        return f"{program}: this file may not be executed. Try: chmod +x {program}"
    return f"{program}: there is no such program. Check its name and PATH."


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
    """The program's exit code, also where MLflow is away: work that has waited in a queue is done."""
    import mlflow

    from mlflow_carbon.tracking.recovery import FAILURES

    run_id = run_id or settings.inherited_run_id()
    try:
        if experiment:
            mlflow.set_experiment(experiment)
        # The run is ours from here on, so that the program's own start_run() follows.
        name = run_name or (None if run_id else program[0])
        active = mlflow.start_run(run_id=run_id, run_name=name)
        if run_id is None:
            # Not the whole line: arguments may hold passwords.
            mlflow.set_tag("mlflow.source.name", program[0])
    except FAILURES as error:
        if not _is_away(error):
            raise CarbonError(f"no run could be started: {describe(error)}") from error
        _warn(f"MLflow is away, so {program[0]} is not measured: {describe(error)}")
        return _ran(program, run_id)
    code = 1
    try:
        code = _ran(program, active.info.run_id)
    finally:
        try:
            mlflow.end_run(_status(code))
        except FAILURES as error:
            _warn(
                f"run {active.info.run_id} could not be ended: {describe(error)}. Its energy is kept"
                " in the spool; `mlflow-carbon recover` delivers it."
            )
    return code


def _is_away(error: Exception) -> bool:
    """Whether the server did not answer, or not properly; not what it or MLflow said no to."""
    refused = getattr(error, "error_code", "INTERNAL_ERROR")
    return refused in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


def _warn(text: str) -> None:
    click.echo(f"mlflow-carbon: {text}", err=True)


def _status(code: int) -> str:
    if code == 0:
        return "FINISHED"
    return "KILLED" if code > 128 else "FAILED"


def _ran(program: tuple[str, ...], run_id: str | None) -> int:
    """The program's exit code as a shell gives it: 128 + signal when a signal ended it."""
    told = {"MLFLOW_RUN_ID": run_id} if run_id else {}
    with _signals_forwarded() as forward_to:
        child = _started(program, settings.inherited_environment(**told))
        forward_to(child)
        # A signal that the system hands to another thread interrupts no wait of this one, so the
        # program is waited for in a thread, and this one looks up once a second.
        waiting = threading.Thread(target=child.wait, daemon=True)
        waiting.start()
        while waiting.is_alive():
            waiting.join(1)
    code = child.returncode
    return code if code >= 0 else 128 - code


def _started(program: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # The program is the one the user typed after our own name, and no shell reads it.
    try:
        return subprocess.Popen(program, env=environment)  # noqa: S603
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise CarbonError(f"{program[0]}: it cannot be started: {error.strerror}.") from error
    # A script without a first line that names its interpreter is the shell's, as for execvp(3).
    found = shutil.which(program[0]) or program[0]
    return subprocess.Popen(["/bin/sh", found, *program[1:]], env=environment)  # noqa: S603


_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""A scheduler's requests to end, to save and requeue, to read the configuration again."""
_KEYS = (signal.SIGINT, signal.SIGQUIT)
"""Typed at a terminal these reach the program by themselves."""


@contextmanager
def _signals_forwarded() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Signals go on to the program, which decides what they mean; we stay to record how it ended.

    They are caught before the program starts, and what comes until then reaches it when it has.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        if number in _KEYS and _at_the_terminal():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    def forward_to(started: subprocess.Popen[bytes]) -> None:
        nonlocal child
        child = started
        for number in early:
            child.send_signal(number)

    before = {
        number: signal.signal(number, forward)
        for number in (*_FORWARDED, *_KEYS)
        if signal.getsignal(number) is not signal.SIG_IGN  # by nohup, or in the background
    }
    try:
        yield forward_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _at_the_terminal() -> bool:
    """Whether keys typed at the terminal reach our group of processes."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
