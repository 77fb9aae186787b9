"""``mlflow-carbon attest``: a named person's statement, or a dataset's card, goes on record."""

from __future__ import annotations

from datetime import datetime, time, timezone
from pathlib import Path

import click

from mlflow_carbon.cli._registry import find_version, mlflow_errors, open_client, store_options
from mlflow_carbon.cli.keys import signing_key
from mlflow_carbon.errors import DataError, OutputError


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
@click.option("--key", help="Sign it with this private key (name or file) for the use attestation; its owner is who states it.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the signed statement to this file instead of the version; more are added to it.")  # fmt: skip
@store_options
def statement(
    name: str, model: str, expires: datetime | None, out: Path | None, **words: str | None
) -> None:
    """State that NAME holds for a model version, as a policy asks.

    Whether it is true is not checked: the record says who stated it, when and why.
    """
    from mlflow_carbon.evidence.model import Attestation
    from mlflow_carbon.gate.attest import record_statement, signed_text

    if out is not None and not words["key"]:
        raise click.UsageError("--out needs --key: a statement in a file counts only when signed.")
    key = signing_key(words["key"]) if words["key"] else None
    client = open_client(words["store"], words["registry"])
    version = find_version(client, model)
    end = datetime.combine(expires, time(23, 59, 59), timezone.utc) if expires else None
    said = {field: str(words[field]) for field in ("by", "role", "reason", "reference")}
    now = datetime.now(timezone.utc).replace(microsecond=0)
    attestation = Attestation(statement=name, made_at=now, expires_at=end, **said)
    uri = f"models:/{version.name}/{version.version}"
    if out is not None and key is not None:
        _append(out, signed_text(version, attestation, key))
        click.echo(f"{out}: {name} for {uri}, signed by {attestation.by}.")
        return
    with mlflow_errors("Nothing was recorded"):
        tag = record_statement(client, version.name, version.version, attestation, key)
    click.echo(f"On record at {uri} as tag {tag}, {'signed ' if key else ''}by {attestation.by}.")


def _append(file: Path, line: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(line + "\n")
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}).") from None


@command.command()
@click.argument("model", metavar="models:/NAME/3")
@store_options
def show(model: str, store: str | None, registry: str | None) -> None:
    """Show the statements on record about a version, and why one of them does not count."""
    from mlflow_carbon.evidence.attestation import is_attestation, read_tag
    from mlflow_carbon.report.shown import shown

    version = find_version(open_client(store, registry), model)
    tags = sorted(filter(is_attestation, version.tags))
    for tag in tags:
        made = read_tag(version, tag)
        if isinstance(made, str):
            click.echo(f"{shown(tag, 100)}: does not count: {shown(made, 300)}")
            continue
        until = f" until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else ""
        signed = f"signed with {shown(made.signed_by, 60)}" if made.signed_by else "not signed"
        click.echo(f"{shown(made.statement, 100)}: by {shown(made.by, 60)} ({shown(made.role, 60)}) on {made.made_at:%Y-%m-%d}{until}, {signed}: {shown(made.reason, 300)}")  # fmt: skip
    if not tags:
        click.echo("No statement is on record.")


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
