"""``mlflow-carbon doctor``: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import click

from mlflow_carbon import __version__, settings
from mlflow_carbon.errors import CarbonError

if TYPE_CHECKING:
    from mlflow_carbon.carbon.region import Region

_PATIENCE_S = 5.0
"""A driver that has not answered by then is told as one that does not."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis. ``state``: ok | note | problem; ``todo`` is empty when all is well."""

    area: str
    state: str
    found: str
    todo: str = ""


_MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}


def _versions() -> Iterator[Check]:
    yield Check("mlflow-carbon", "ok", __version__)
    try:
        yield Check("MLflow", "ok", version("mlflow"))
    except PackageNotFoundError:
        yield Check("MLflow", "problem", "not installed", "pip install mlflow")


def _recording(current: settings.Settings) -> Iterator[Check]:
    if current.enabled:
        yield Check("recording", "ok", "on: every run started by this Python is measured")
    else:
        yield Check("recording", "note", "off", "unset MLFLOW_CARBON_ENABLED to measure runs again")
    folder = settings.spool_dir(current)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".doctor"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield Check(
            "spool",
            "problem",
            f"{folder}: {error.strerror}",
            "set MLFLOW_CARBON_SPOOL_DIR to a folder you may write to; until then a killed run "
            "loses its energy",
        )
    else:
        yield Check("spool", "ok", str(folder))


def _settings() -> Iterator[Check]:
    unset = []
    for told in settings.explain():
        if told.source != "default":
            yield Check(f"setting {told.name}", "ok", f"{_shown(told)} ({told.source})")
        else:
            unset.append(f"{told.name} = {'none' if told.value is None else told.value}")
    yield Check("settings by default", "ok", ", ".join(unset))
    for name, hint in settings.unknown_variables().items():
        yield Check("setting", "note", f"{name} sets nothing", hint or "unset it")


def _shown(told: settings.Explained) -> object:
    """The value; of a command line only its program, as arguments may hold a password."""
    if told.name == "wall_power_command":
        return f"{str(told.value).split(maxsplit=1)[0]} ..."
    return told.value


def _meters(current: settings.Settings) -> Iterator[Check]:
    from mlflow_carbon.energy.discover import discover
    from mlflow_carbon.energy.sampler import Sampler

    found = discover(current)
    sampler = Sampler(found.meters, found.unmeasured, found.drivers)
    sampler.open_drivers(_PATIENCE_S)
    yield Check("hardware", "ok", found.hardware(sampler.meters))
    for meter in sampler.meters:
        info = meter.info
        state = "ok" if info.method.value in ("counter", "sampled") else "note"
        yield Check(
            f"energy: {info.component.value}", state, f"{info.method.value}: {info.describe}"
        )
    for missing in sampler.unmeasured:
        yield Check(f"energy: {missing.component.value}", "note", f"not measured: {missing.reason}")
    sampler.shutdown()


def _carbon(current: settings.Settings) -> Iterator[Check]:
    from mlflow_carbon.carbon.intensity import factor_for
    from mlflow_carbon.carbon.own import own_factors
    from mlflow_carbon.carbon.region import find_region

    region = find_region(current)
    factor = factor_for(region, own_factors(current))
    todo = ""
    if region.source not in ("setting", "evidence"):
        todo = "set MLFLOW_CARBON_REGION (FR, US-CA, aws/eu-west-3) to use the right factor"
    yield Check(
        "region",
        "note" if todo else "ok",
        f"{region.name} ({region.source}: {region.reason})",
        todo,
    )
    spread = f"{factor.g_per_kwh.low:.0f} to {factor.g_per_kwh.high:.0f}"
    yield Check(
        "carbon factor",
        "ok",
        f"{factor.g_per_kwh.mid:.1f} gCO2e/kWh ({spread}), {factor.title}, {factor.year}, {factor.basis}",
    )
    yield from _more_factors(current, region)


def _more_factors(current: settings.Settings, region: Region) -> Iterator[Check]:
    """The hour's and the contract's, where they are asked for. Nobody is asked here."""
    from mlflow_carbon.carbon.live import live_intensity

    live = live_intensity(current, region)
    if isinstance(live, str):
        yield Check("live intensity", "note", live, "without it the yearly factor is used")
    elif live is not None:
        yield Check("live intensity", "ok", f"{current.live_intensity}, asked while runs run")
    if (current.contract_g_per_kwh is None) != (not current.contract):
        todo = "set both MLFLOW_CARBON_CONTRACT_G_PER_KWH and MLFLOW_CARBON_CONTRACT"
        yield Check("contract factor", "note", "only one of factor and contract is set", todo)


def _report() -> Iterator[Check]:
    from mlflow_carbon.report.pango import pango_problem

    problem = pango_problem()
    if problem is None:
        yield Check("PDF report", "ok", "WeasyPrint and Pango work")
    else:
        yield Check("PDF report", "problem", "Pango is missing; HTML and JSON still work", problem)


def _store(uri: str | None) -> Iterator[Check]:
    if uri is None:
        yield Check("store", "note", "not asked for", "mlflow-carbon doctor --store URI tries one")
        return
    from mlflow_carbon.evidence.store import open_store

    try:
        store = open_store(uri)
    except CarbonError as error:
        yield Check("store", "problem", str(error))
    else:
        yield Check("store", "ok", f"{store.shown} answers")


def _gate(current: settings.Settings, uri: str | None) -> Iterator[Check]:
    if current.gate_policy is None:
        yield Check(
            "gate",
            "note",
            "off",
            "set MLFLOW_CARBON_GATE_POLICY=promotion-gate for `mlflow server`",
        )
        return
    from mlflow_carbon.policy.load import load_pack

    try:
        pack = load_pack(current.gate_policy)
    except CarbonError as error:
        yield Check(
            "gate", "problem", str(error), "protected names stay closed until this is mended"
        )
    else:
        found = f"{pack.id} {pack.version}"
        if uri is not None and uri.startswith(("http://", "https://")):
            advice = f"{found}, asked here only as early advice; others can go around it"
            fix = "set MLFLOW_CARBON_GATE_POLICY where the server runs: only the server enforces"
            yield Check("gate", "note", advice, fix)
        else:
            yield Check("gate", "ok", found)


def _identities(uri: str | None) -> Iterator[Check]:
    """Whether a server asks who is asking: what the names in approvals and attestations are worth."""
    if uri is None or not uri.startswith(("http://", "https://")):
        return
    import urllib.error
    import urllib.request

    try:
        asked = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get?experiment_id=0"
        with urllib.request.urlopen(asked, timeout=5):  # noqa: S310 - http or https, by the check above
            answer = 200
    except urllib.error.HTTPError as error:
        with error:
            answer = error.code
    except OSError:
        return  # the check of the store says so
    if answer in (401, 403):
        yield Check("identities", "ok", "the server asks who is asking")
    else:
        yield Check(
            "identities",
            "note",
            "not proven: the server takes everybody's word for who they are",
            "start it with --app-name basic-auth (or behind a proxy that authenticates), so that "
            "approvals and attestations are worth their names",
        )


def _diagnose(store: str | None) -> list[Check]:
    checks = list(_versions())
    try:
        current = settings.load()
    except CarbonError as error:
        return [*checks, Check("settings", "problem", str(error))]
    parts: list[Callable[[], Iterator[Check]]] = [
        _settings,
        lambda: _recording(current),
        lambda: _meters(current),
        lambda: _carbon(current),
        _report,
        lambda: _store(store),
        lambda: _gate(current, store),
        lambda: _identities(store),
    ]
    for part in parts:
        checks.extend(part())
    return checks


@click.command()
@click.option("--store", metavar="URI", help="MLflow tracking store or server to try.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(store: str | None, as_json: bool) -> None:
    """Say what can be measured here, what not, and why. Exit code 1 if something is broken."""
    checks = _diagnose(store)
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for check in checks:
            todo = f"\n[dim]-> {escape(check.todo)}[/]" if check.todo else ""
            table.add_row(_MARKS[check.state], escape(check.area), escape(check.found) + todo)
        Console().print(table)
    if any(check.state == "problem" for check in checks):
        raise click.exceptions.Exit(1)
