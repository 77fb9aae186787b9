"""``mlflow-carbon witness``: keep, outside of MLflow, what its runs looked like soon after they ended."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click

from mlflow_carbon.cli._registry import open_client
from mlflow_carbon.cli.keys import signing_key


@click.command()
@click.option("--store", required=True, envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow store.")  # fmt: skip
@click.option("--ledger", "file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The witness's own file; made if there is none. Keep it where trainers cannot write.")  # fmt: skip
@click.option("--key", required=True, help="Name or file of a private key for the use witness.")
@click.option("--experiment", "experiments", multiple=True, help="Only runs of this experiment; repeatable.")  # fmt: skip
def command(store: str, file: Path, key: str, experiments: tuple[str, ...]) -> None:
    """Enter every finished run into a signed, append-only ledger: the digest of its record and of each file.

    Run it regularly, by another user than those who train. `mlflow-carbon verify --ledger FILE` then
    names runs that vanished, records that were replaced and files that were changed.
    """
    from mlflow_carbon.evidence.ledger import Ledger
    from mlflow_carbon.evidence.store import Query, has_ended, open_store
    from mlflow_carbon.evidence.witness import witness

    own, now = signing_key(key), datetime.now(timezone.utc)
    opened, ledger = open_store(store), Ledger(file)
    runs = [
        run.subject.key
        for run in opened.runs(Query(experiments=experiments))
        if has_ended(run, now)
    ]
    added = witness(open_client(store, None), runs, ledger, own, now)
    click.echo(f"{added} of {len(runs)} runs are new or changed since they were last seen: {file}")
    click.echo(f"Head {ledger.read().head}")
    click.echo("Keep the head elsewhere too (a mail, a ticket): it shows later whether lines were cut off.")  # fmt: skip
