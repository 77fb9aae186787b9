"""``mlflow-carbon attest``: a named person's statement, or a dataset's card, goes on record."""

from __future__ import annotations

from datetime import datetime, time, timezone
from pathlib import Path

import click

from mlflow_carbon.cli._registry import find_version, mlflow_errors, open_client, store_options
from mlflow_carbon.errors import DataError


@click.group()
def command() -> None:
    """Put a named person's statement or a dataset card on record."""


@command.command()
@click.argument("name")
@click.option("--model", required=True, metavar="models:/NAME/3", help="The version it is about.")
@click.option("--by", required=True, help="Who states it: a name or an e-mail address.")
@click.option("--role", required=True, help="In which role, for example 'model owner'.")
@click.option("--reason", required=True, help="What was looked at and why it holds.")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Last day (UTC) on which it counts; default: as long as the policy lets it.",
)
@click.option("--reference", default="", help="Where the document behind it can be found.")
@store_options
def statement(
    name: str,
    model: str,
    expires: datetime | None,
    store: str | None,
    registry: str | None,
    **words: str,
) -> None:
    """State that NAME holds for a model version, as a policy asks.

    Whether it is true is not checked: the record says who stated it, when and why.
    """
    from mlflow_carbon.evidence.model import Attestation
    from mlflow_carbon.gate.attest import record_statement

    client = open_client(store, registry)
    version = find_version(client, model)
    attestation = Attestation(
        statement=name,
        made_at=datetime.now(timezone.utc),
        expires_at=None
        if expires is None
        else datetime.combine(expires.date(), time(23, 59, 59), timezone.utc),
        **words,
    )
    with mlflow_errors("Nothing was recorded"):
        key = record_statement(client, version.name, version.version, attestation)
    click.echo(
        f"On record at models:/{version.name}/{version.version} as tag {key}, by {attestation.by}."
    )


@command.command()
@click.argument("card", type=click.Path(path_type=Path))
@click.option("--model", metavar="models:/NAME/3", help="The version whose training run used it.")
@click.option("--run", "run_id", metavar="ID", help="The run that used it.")
@click.option(
    "--all-inputs",
    is_flag=True,
    help="The card describes every dataset of the run: the splits of one data set.",
)
@store_options
def dataset(
    card: Path,
    model: str | None,
    run_id: str | None,
    all_inputs: bool,
    store: str | None,
    registry: str | None,
) -> None:
    """Put the dataset card CARD (YAML) on the run that used the dataset.

    The card must describe the content that was used: its sha256, or else its name, is compared with
    the run's, unless --all-inputs says that it describes them all.
    """
    from mlflow_carbon.datasets.cards import load_card
    from mlflow_carbon.gate.attest import record_card, record_card_for_all

    if (model is None) == (run_id is None):
        raise click.UsageError("Say which run used the dataset: either --model or --run.")
    read = load_card(card)
    fields = {"name": read.name, "declared_by": read.declared_by, "sha256": read.sha256}
    client = open_client(store, registry)
    if model is not None:
        run_id = find_version(client, model).run_id
        if not run_id:
            raise DataError(f"{model} has no training run on record; give the run with --run.")
    said, now = {**fields, **read.declared()}, datetime.now(timezone.utc)
    with mlflow_errors("Nothing was recorded"):
        if all_inputs:
            keys = record_card_for_all(client, str(run_id), said, now)
        else:
            keys = (record_card(client, str(run_id), said, now),)
    click.echo(f"On record at run {run_id} as tag {', '.join(keys)}.")
