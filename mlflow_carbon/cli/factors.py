"""``mlflow-carbon factors``: the emission factors, where they are from, and your own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon import settings as settings_module
from mlflow_carbon.errors import DataError, OutputError, SettingsError

if TYPE_CHECKING:
    from mlflow_carbon.carbon.intensity import Factor


@click.group()
def command() -> None:
    """Show emission factors and their sources; check and bring in a table of your own."""


@command.command()
@click.argument("place", required=False)
@click.option("--sources", is_flag=True, help="Attribution and license of every shipped table.")
@click.option("--json", "as_json", is_flag=True, help="For a program to read.")
def show(place: str | None, sources: bool, as_json: bool) -> None:
    """Show the factor of PLACE (FR, US-CA, aws/eu-west-3, a code of your own table).

    Without PLACE: the factor used on this machine now, and why.
    """
    if sources:
        _show_sources(as_json)
        return
    factor = _factor(place)
    if as_json:
        click.echo(json.dumps(asdict(factor), indent=2))
        return
    spread = factor.g_per_kwh
    for label, text in (
        ("Place", f"{factor.region_name} ({factor.region})"),
        ("Known by", f"{factor.region_source}: {factor.region_reason}"),
        ("Factor", f"{spread.mid:g} gCO2e/kWh, from {spread.low:g} to {spread.high:g}"),
        ("Range", factor.spread),
        ("Meaning", factor.basis_text),
        ("Year", str(factor.year)),
        ("Source", factor.source),
        ("License", factor.license),
        ("Table", f"{factor.table}, sha256 {factor.table_sha256}"),
    ):
        click.echo(f"{label + ':':10}{text}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a table of your own: columns, ranges, and that every row names its source and license."""
    from mlflow_carbon.carbon.own import load

    rows = load(file)
    click.echo(f"{file}: {len(rows)} factors, all with source, year and license.")


@command.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
def import_(file: Path) -> None:
    """Check a table and keep a copy that is used from now on, before the shipped ones."""
    from mlflow_carbon.carbon.own import load

    rows = load(file)
    current = settings_module.load()
    if current.factor_table is not None:
        raise SettingsError(
            f"factor_table is set to {current.factor_table}, so an imported table would not be used. "
            "Change that file, or remove the setting."
        )
    target = settings_module.factor_table(current)
    if target is None:
        raise OutputError("There is no home folder to keep the table in. Set factor_table instead.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}.") from None
    click.echo(f"{len(rows)} factors kept in {target}. Remove that file to go back.")


def _factor(place: str | None) -> Factor:
    from mlflow_carbon.carbon.intensity import factor_for
    from mlflow_carbon.carbon.own import own_factors
    from mlflow_carbon.carbon.region import Region, find_region, parse_region

    current = settings_module.load()
    own = own_factors(current)
    if place is None:
        return factor_for(find_region(current), own)
    if place in own:
        return factor_for(Region(place, own[place].name, "setting", "asked for"), own)
    try:
        return factor_for(parse_region(place), own)
    except SettingsError:
        raise DataError(
            f"{place!r} is no place with a factor. Countries are two letters (FR), states and provinces "
            "four (US-CA), cloud regions provider/region (aws/eu-west-3, gcp/europe-west9)."
        ) from None


def _show_sources(as_json: bool) -> None:
    from mlflow_carbon.carbon import tables

    found = []
    for name in tables.names():
        rows = tables.rows(name)
        for source_id in sorted({row["source_id"] for row in rows}):
            source = tables.sources()[source_id]
            found.append({"table": f"{name}.csv", "rows": len(rows), **asdict(source)})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        click.echo(
            f"{entry['table']}: {entry['title']}\n    {entry['attribution']} [{entry['license']}]"
        )
