"""``mlflow-carbon gate receive``: a small HTTP server for MLflow's webhooks."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from mlflow_carbon.cli._registry import gate_pack, open_client, policy_option, store_options
from mlflow_carbon.errors import DataError, OutputError


@click.command()
@policy_option
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    required=True,
    help="File with the webhook's secret; a command line would show it to everybody.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8377, show_default=True)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="The ledger's file; default: MLFLOW_CARBON_GATE_LEDGER, else in the user's state folder.",
)
@store_options
def receive(policy: str | None, secret_file: Path, host: str, port: int, **options: Any) -> None:
    """Take back promotions that MLflow tells of by webhook, where the gate itself cannot run.

    Register it for the event model_version_alias.created. It comes after the fact: an alias is
    wrong for as long as the webhook takes, and for good if the webhook is lost; run
    `gate watch --rollback` from a scheduler beside it. Put it behind HTTPS; MLflow asks for that.
    """
    import logging

    from mlflow_carbon.evidence.ledger import Ledger
    from mlflow_carbon.gate.receiver import Receiver, looker
    from mlflow_carbon.gate.webhook import Doorkeeper
    from mlflow_carbon.settings import gate_ledger

    pack, client = gate_pack(policy), open_client(options["store"], options["registry"])
    if pack.gate is None:
        raise DataError(f"{pack.file} has no gate section, so nothing is behind the gate.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    doorkeeper = Doorkeeper(_secret(secret_file), lambda: datetime.now(timezone.utc))
    look = looker(pack, client, Ledger(options["ledger"] or gate_ledger()))
    try:
        server = Receiver((host, port), doorkeeper, look)
    except OSError as error:
        raise OutputError(f"{host}:{port}: cannot listen: {error.strerror}.") from None
    click.echo(
        f"Listening on http://{host}:{server.server_port} for policy {pack.id} {pack.version}."
    )
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("Stopped.")


def _secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the secret cannot be read: {error}") from None
    if len(secret) < 16:
        raise DataError(f"{path}: a secret of fewer than 16 characters can be guessed.")
    return secret
