"""``mlflow-carbon factors``: the emission factors, where they are from, and your own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        rows = list(tables.rows(name))
        for source_id in sorted({row["source_id"] for row in rows}):
            source = tables.sources()[source_id]
            found.append({"table": f"{name}.csv", "rows": len(rows), **source._asdict()})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        click.echo(
            f"{entry['table']}: {entry['title']}\n    {entry['attribution']} [{entry['license']}]"
        )


@command.command()
@click.argument("run_id", metavar="RUN")
@click.option("--place", help="With the yearly factor of this place: FR, US-CA, aws/eu-west-3.")
@click.option("--hourly", type=click.Path(path_type=Path), help="With a CSV: hour, g_per_kwh.")
@click.option("--store", metavar="URI", help="Tracking store; default: as MLflow is set.")
@click.option("--json", "as_json", is_flag=True, help="For a program to read.")
def recompute(
    run_id: str, place: str | None, hourly: Path | None, store: str | None, as_json: bool
) -> None:
    """Show the emissions of a finished RUN with other factors. Changes nothing on the run."""
    from mlflow_carbon.carbon.emissions import emissions_g
    from mlflow_carbon.carbon.recompute import (
        energy_of,
        hourly_emissions_g,
        hourly_table,
        hours_of,
    )

    if (place is None) == (hourly is None):
        raise DataError("Give either --place or --hourly.")
    documents = _evidence(run_id, store)
    if hourly is not None:
        factors = hourly_table(hourly)
        hours = [hour for document in documents for hour in hours_of(document)]
        found = {"mid": hourly_emissions_g(hours, factors)}
        counted = "1 hour" if len(hours) == 1 else f"{len(hours)} hours"
        told = f"{counted} with the factors of {hourly}"
    else:
        factor = _factor(place)
        parts = [emissions_g(energy_of(document), factor) for document in documents]
        total = sum(parts[1:], start=parts[0])
        found = {"low": total.low, "mid": total.mid, "high": total.high}
        told = f"{factor.g_per_kwh.mid:g} gCO2e/kWh, {factor.basis_text}, {factor.year}, {factor.title}"
    if as_json:
        click.echo(json.dumps({"run_id": run_id, "emissions_g": found, "factors": told}, indent=2))
        return
    spread = f" (from {found['low']:.6g} to {found['high']:.6g})" if "low" in found else ""
    click.echo(f"{found['mid']:.6g} g CO2e{spread}: {told}")


def _evidence(run_id: str, store: str | None) -> list[dict[str, Any]]:
    """The evidence documents of all sessions of a run."""
    import re
    import tempfile

    from mlflow_carbon.cli._registry import mlflow_errors, open_client

    client = open_client(store, None)
    found = []
    with mlflow_errors(f"run {run_id}"), tempfile.TemporaryDirectory() as scratch:
        for item in client.list_artifacts(run_id, "mlflow_carbon"):
            if re.fullmatch(r"mlflow_carbon/evidence(\.\d+)?\.json", item.path):
                content = Path(client.download_artifacts(run_id, item.path, scratch)).read_bytes()
                found.append(json.loads(content))
    if not found:
        raise DataError(f"run {run_id} has no evidence on record.")
    return found
