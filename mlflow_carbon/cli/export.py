"""``mlflow-carbon export``: a model version's evidence in other people's formats."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_carbon.cli._registry import find_version, mlflow_errors, open_client, store_options
from mlflow_carbon.errors import DataError, OutputError

if TYPE_CHECKING:
    from mlflow_carbon.export.record import ModelRecord

Command = Callable[..., None]


@click.group()
def command() -> None:
    """Write a model version's evidence in the format of a bill of materials, a card or a form."""


def _export(function: Callable[..., str]) -> Command:
    """The argument and options every format has; ``function`` gets the record and its own options."""

    @click.argument("model", metavar="models:/NAME/3")
    @click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="File to write; default: the terminal.",
    )
    @store_options
    @functools.wraps(function)
    def run(
        model: str, output: Path | None, store: str | None, registry: str | None, **own: Any
    ) -> None:
        content = function(_record(model, store, registry), datetime.now(timezone.utc), **own)
        if output is None:
            click.echo(content, nl=False)
            return
        try:
            output.write_text(content, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{output}: cannot be written: {error.strerror}.") from None
        click.echo(f"Wrote {output}.", err=True)

    return run


def _record(model: str, store: str | None, registry: str | None) -> ModelRecord:
    from mlflow_carbon.export.record import read_record

    client = open_client(store, registry)
    version = find_version(client, model)
    with mlflow_errors(model):
        return read_record(client, client, version.name, str(version.version))


@command.command()
@click.option("--spec", type=click.Choice(["1.6", "1.7"]), default="1.6", show_default=True)
@_export
def cyclonedx(record: ModelRecord, made_at: datetime, spec: str) -> str:
    """CycloneDX ML-BOM (JSON): energy in kWh, emissions in tonnes of CO2e."""
    from mlflow_carbon.export.cyclonedx import render

    return render(record, made_at, spec=spec)


@command.command()
@_export
def spdx(record: ModelRecord, made_at: datetime) -> str:
    """SPDX 3.0.1 with AI and Dataset packages (JSON-LD): energy in kilowatt hours."""
    from mlflow_carbon.export.spdx import render

    return render(record, made_at)


@command.command()
@_export
def huggingface(record: ModelRecord, made_at: datetime) -> str:
    """Hugging Face model card (README.md): emissions in grams of CO2e."""
    from mlflow_carbon.export.huggingface import render

    return render(record, made_at)


@command.command()
@_export
def gpai(record: ModelRecord, made_at: datetime) -> str:
    """Fields of the EU model documentation form for general-purpose AI (JSON): energy in MWh."""
    from mlflow_carbon.export.gpai import render

    return render(record, made_at)


@command.command()
@_export
def boamps(record: ModelRecord, made_at: datetime) -> str:
    """BoAmps energy report (JSON): energy in kWh."""
    from mlflow_carbon.export.boamps import render

    return render(record, made_at)


@command.command()
@click.option("--dataset", default="", help="Name of the dataset, where the version used several.")
@_export
def croissant(record: ModelRecord, made_at: datetime, dataset: str) -> str:
    """Croissant description of a dataset (JSON-LD)."""
    from mlflow_carbon.export.croissant import render

    return render(record, made_at, dataset=dataset)


_POSITIVE = click.FloatRange(0, min_open=True)


@command.command()
@click.option("--per", type=_POSITIVE, help="R: how many units the training stands for.")
@click.option("--unit", default="", help="R: which unit, for example 'prediction'.")
@click.option(
    "--pue", type=click.FloatRange(1), help="Power usage effectiveness; default: the run's."
)
@click.option("--embodied-kg", type=_POSITIVE, help="TE: kg CO2e of making the reserved hardware.")
@click.option("--embodied", metavar="KEY[*N]", multiple=True, help="TE from the shipped table.")
@click.option("--lifetime-years", type=_POSITIVE, help="EL; default: 4 years, of a server.")
@click.option(
    "--share", type=click.FloatRange(0, 1), default=1.0, help="RR/ToR; default: all of it."
)
@click.option("--water-site", type=click.FloatRange(0), help="Litres per kWh, cooling on the site.")
@click.option("--water-grid", type=click.FloatRange(0), help="Litres per kWh, of the power plants.")
@click.option("--price", type=click.FloatRange(0), help="Price of a kWh.")
@click.option("--currency", default="", help="Of the price.")
@_export
def sci(record: ModelRecord, made_at: datetime, **given: Any) -> str:
    """Software Carbon Intensity, ISO/IEC 21031 (JSON), with water and cost: grams of CO2e per unit."""
    from mlflow_carbon.export.sci import Inputs, render

    if (given["per"] is None) != (not given["unit"]):
        raise DataError("R is a number and a unit: give both --per and --unit, or neither.")
    inputs = Inputs(
        units=given["per"],
        unit=given["unit"],
        pue=given["pue"],
        hardware=_hardware(given),
        water_site_l_per_kwh=given["water_site"],
        water_grid_l_per_kwh=given["water_grid"],
        price_per_kwh=given["price"],
        currency=given["currency"],
    )
    return render(record, made_at, inputs)


def _hardware(given: dict[str, Any]) -> Any:
    from mlflow_carbon.carbon import sci as formula
    from mlflow_carbon.units import Range

    if given["embodied_kg"] is None and not given["embodied"]:
        return None
    total = Range.exactly((given["embodied_kg"] or 0.0) * 1000.0)
    for item in given["embodied"]:
        key, _, count = item.partition("*")
        if count and not count.isdecimal():
            raise DataError(f"--embodied {item!r}: write the key and how many, like gpu_generic*8.")
        total += formula.from_table(key).scaled(int(count or 1))
    years = given["lifetime_years"]
    lifetime_s = formula.default_lifetime_s() if years is None else years * formula.S_PER_YEAR
    shipped = ", ".join(given["embodied"])
    source = f"shipped table: {shipped}" if shipped else "given by the user"
    source += f"; lifetime {lifetime_s / formula.S_PER_YEAR:g} years"
    return formula.Hardware(
        embodied_g=total, lifetime_s=lifetime_s, share=given["share"], source=source
    )


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--store", required=True, envvar="MLFLOW_TRACKING_URI", help="SQLite or PostgreSQL.")
@click.option("--experiment", "experiments", multiple=True, help="Only this one; repeatable.")
@click.option("--filter", "filter_", default="", help="Only these runs, in MLflow's syntax.")
@click.option("--workspace", default="", help="The workspace the experiments are in.")
@click.option("--buckets", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Divide the runs, trees kept whole, so that each part is audited by itself: less memory, or --engine spark.")  # fmt: skip
def evidence(
    folder: Path,
    store: str,
    experiments: tuple[str, ...],
    filter_: str,
    workspace: str,
    buckets: int,
) -> None:
    """All that an audit reads, as Parquet files in a new FOLDER: audit it with --store FOLDER."""
    from mlflow_carbon.errors import StoreError
    from mlflow_carbon.evidence.filters import Where
    from mlflow_carbon.evidence.query import Query
    from mlflow_carbon.evidence.relational import TableStore
    from mlflow_carbon.evidence.snapshot import write_snapshot
    from mlflow_carbon.evidence.store import open_store

    opened = open_store(store)
    if not isinstance(opened, TableStore):
        raise StoreError(
            f"{opened.shown}: a snapshot is made from the SQLite or PostgreSQL database itself, not through "
            "its server. Ask who runs the server to make it."
        )
    query = Query(experiments=experiments, filter=filter_, workspace=workspace)
    try:
        ids = list(map(int, opened.experiments(query))) if experiments else []
        where = opened.where(query)
        among = f" AND experiment_id IN ({', '.join('?' * len(ids))})" if ids else ""
        chosen = Where(among + where.sql, (*ids, *where.values))
        about = {"experiments": list(experiments), "filter": filter_, "workspace": workspace}
        digest = write_snapshot(
            opened.source, chosen, folder, datetime.now(timezone.utc), about, buckets
        )
    finally:
        opened.close()
    click.echo(f"Wrote {folder}. Keep this apart from it: SHA256SUMS has sha256 {digest}")
