"""``mlflow-carbon recover``: deliver what killed processes and unreachable servers left in the spool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from mlflow_carbon import settings
from mlflow_carbon.errors import StoreError

if TYPE_CHECKING:
    from mlflow_carbon.tracking.recovery import Outcome, Recovered


@click.command()
@click.option(
    "--tracking-uri",
    metavar="URI",
    default="",
    help="Address with its password, where the record's own was kept without it.",
)
@click.option(
    "--end-runs",
    is_flag=True,
    help="Also end runs left RUNNING by a dead process: as it ended them, else KILLED.",
)
def command(tracking_uri: str, end_runs: bool) -> None:
    """Deliver the energy of runs whose process was killed, or whose server was away.

    Safe to call at any time and as often as you like: runs still being worked on are left alone.
    Exit code 4 if a record could not be delivered; it is kept.
    """
    current = settings.load()
    from mlflow.tracking import get_tracking_uri, is_tracking_uri_set

    from mlflow_carbon.tracking.recovery import FAILURES, Outcome, end_left_running, recover
    from mlflow_carbon.tracking.spool import used_folders

    folders = used_folders(settings.spool_dir(current))
    known, store_is_named = tracking_uri or get_tracking_uri(), is_tracking_uri_set()
    outcomes: list[Outcome] = []
    for folder in folders:
        every = recover(folder, current, tracking_uri=known, connect=_connect, end_runs=end_runs)
        outcomes.extend(_told(found) for found in every)
    if end_runs and (tracking_uri or store_is_named):
        try:
            outcomes.extend(_told(found) for found in end_left_running(folders, _connect(known)))
        except FAILURES as error:
            raise StoreError(f"runs left RUNNING could not be looked for: {error}") from error
    places = " and ".join(map(str, folders))
    if not outcomes:
        click.echo(f"Nothing to recover in {places}.")
    if kept := outcomes.count(Outcome.KEPT):
        total = len(outcomes)
        click.echo(f"{kept} of {total} records stay in {places}. Call this again later.", err=True)
        sys.exit(4)


def _told(found: Recovered) -> Outcome:
    reason = f": {found.reason}" if found.reason else ""
    click.echo(f"{found.outcome.value:9}  run {found.run_id or '(unknown)'}{reason}")
    return found.outcome


def _connect(uri: str) -> Any:
    from mlflow.tracking import set_tracking_uri

    from mlflow_carbon.evidence.address import probe
    from mlflow_carbon.evidence.revisions import check_as_installed
    from mlflow_carbon.tracking.recovery import client_for

    if revision := probe(uri):
        check_as_installed(uri, revision)
    set_tracking_uri(uri)  # old releases of MLflow look there which server takes a run's artifacts
    return client_for(uri)
