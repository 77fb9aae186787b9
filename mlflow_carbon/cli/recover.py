"""``mlflow-carbon recover``: deliver what killed processes and unreachable servers left in the spool."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlflow_carbon import settings


@click.command()
@click.option(
    "--tracking-uri",
    metavar="URI",
    default="",
    help="Address with its password, where the record's own was kept without it.",
)
@click.option(
    "--end-runs", is_flag=True, help="Also set runs left RUNNING by a dead process to KILLED."
)
def command(tracking_uri: str, end_runs: bool) -> None:
    """Deliver the energy of runs whose process was killed, or whose server was away.

    Safe to call at any time and as often as you like: runs still being worked on are left alone.
    Exit code 4 if a record could not be delivered; it is kept.
    """
    current = settings.load()
    from mlflow.tracking import get_tracking_uri

    from mlflow_carbon.tracking.recovery import Outcome, recover
    from mlflow_carbon.tracking.spool import used_folders

    folders = used_folders(settings.spool_dir(current))
    known = tracking_uri or get_tracking_uri()
    kept = total = 0
    for folder in folders:
        for found in recover(
            folder, current, tracking_uri=known, connect=_connect, end_runs=end_runs
        ):
            total += 1
            kept += found.outcome is Outcome.KEPT
            told = f": {found.reason}" if found.reason else ""
            click.echo(f"{found.outcome.value:9}  run {found.run_id or '(unknown)'}{told}")
    places = " and ".join(map(str, folders))
    if not total:
        click.echo(f"Nothing to recover in {places}.")
    if kept:
        click.echo(f"{kept} of {total} records stay in {places}. Call this again later.", err=True)
        sys.exit(4)


def _connect(uri: str) -> Any:
    from mlflow_carbon.evidence.address import probe
    from mlflow_carbon.evidence.revisions import check_as_installed
    from mlflow_carbon.tracking.recovery import client_for

    if revision := probe(uri):
        check_as_installed(uri, revision)
    return client_for(uri)
