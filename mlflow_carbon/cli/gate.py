"""``mlflow-carbon gate``: ask the gate, approve and override by name, and watch what was promoted."""

from __future__ import annotations

import click

from mlflow_carbon.cli._gate_check import check
from mlflow_carbon.cli._gate_people import approve, override
from mlflow_carbon.cli._gate_receive import receive
from mlflow_carbon.cli._gate_verdict import verdict
from mlflow_carbon.cli._gate_watch import show_ledger, status, watch


@click.group()
def command() -> None:
    """Ask whether a model version may be promoted, approve it, and watch what was promoted."""


for _part in (check, verdict, approve, override, status, watch, receive, show_ledger):
    command.add_command(_part)
