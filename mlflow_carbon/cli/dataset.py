"""``mlflow-carbon dataset``: what a dataset card says, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Check dataset cards before they are needed."""


@command.command()
@click.argument("card", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For a program to read.")
def check(card: Path, as_json: bool) -> None:
    """Read a card (NAME.dataset.yaml, Croissant, Hugging Face) and show the 22 provenance fields."""
    from mlflow_carbon.datasets.cards import load_card, merged
    from mlflow_carbon.datasets.standard import STANDARD, entries

    loaded = load_card(card)
    found = entries(loaded.name, merged([loaded]))
    if as_json:
        document = {
            "standard": STANDARD,
            "name": loaded.name,
            "sensitive": loaded.sensitive or None,
            "fields": [
                {
                    "group": entry.field.group,
                    "title": entry.field.title,
                    "value": entry.value or None,
                    "declared_by": entry.declared_by or None,
                }
                for entry in found
            ],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for entry in found:
        click.echo(f"{entry.field.title + ':':36}{entry.value or '(not said)'}")
    click.echo(f"{'Personal data:':36}{loaded.sensitive or '(not said)'}")
    said = sum(bool(entry.value) for entry in found)
    click.echo(f"\n{said} of {len(found)} fields of the {STANDARD} are given.")
