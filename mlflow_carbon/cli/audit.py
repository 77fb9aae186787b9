"""``mlflow-carbon audit``: check a store against policies, write the report, answer by exit code."""

from __future__ import annotations

import os.path
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, time, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_carbon.cli._integrity import attestations, seal_check, sign
from mlflow_carbon.cli._pades import pdf_signer, pdf_signing
from mlflow_carbon.cli.keys import signing_key
from mlflow_carbon.errors import NothingToAuditError, OutputError
from mlflow_carbon.settings import source_date

if TYPE_CHECKING:
    from mlflow_carbon.audit.select import AuditRequest, Progress
    from mlflow_carbon.audit.summary import Audit
    from mlflow_carbon.evidence.query import Query
    from mlflow_carbon.policy.model import Pack

FORMATS = ("pdf", "html", "json", "csv", "csvw", "parquet", "sarif", "junit", "oscal", "markdown")
"""As ``report.write`` has them; written out so that ``--help`` loads no renderer."""
REPORT_FORMATS = "pdf,html,json"
ENGINES = ("auto", "columns", "plain", "spark")
SEVERITIES = ("critical", "high", "medium", "low", "never")
_ROOM_BYTES = 32 * 1024 * 1024
"""Free space asked for before the work starts; a report of 300 findings takes some 2 MB."""


def chosen_formats(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """The values of ``--format``, given together or one after another, as names of formats, each once."""
    names = (one.strip().lower() for one in ",".join(given).split(","))
    wanted = tuple(dict.fromkeys(filter(None, names)))
    unknown = [one for one in wanted if one not in FORMATS]
    if unknown or not wanted:
        what = (
            f"there is no format {', '.join(map(repr, unknown))}" if unknown else "no format given"
        )
        raise click.BadParameter(f"{what}; choose from {', '.join(FORMATS)}.", context, parameter)
    return wanted


def _moment(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> datetime | None:
    """A date means the end of that day; without a time zone it is UTC. ``None``: nobody has chosen one."""
    return source_date() if text is None else _end_of(text, context, parameter)


def _end_of(
    text: str, context: click.Context | None = None, parameter: click.Parameter | None = None
) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        hint = f"{text!r} is not a date; write 2026-11-30 or 2026-11-30T12:00:00Z."
        raise click.BadParameter(hint, context, parameter) from None
    if "T" not in text and " " not in text:
        moment = datetime.combine(moment.date(), time(23, 59, 59))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


@click.command()
@click.option("--store", required=True, envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow store, as MLflow takes it: sqlite, postgresql, http(s)...")  # fmt: skip
@click.option("--policy", "policies", multiple=True, default=("baseline",), show_default=True, help="Name of a shipped pack or a policy file; repeatable.")  # fmt: skip
@click.option("--experiment", "experiments", multiple=True, help="Only this experiment (name or id); repeatable.")  # fmt: skip
@click.option("--filter", "filter_", default="", help="Only runs that match this filter, in MLflow's syntax.")  # fmt: skip
@click.option("--since", metavar="DATE", help="Only runs that began then or later (UTC); `last`: that ended since the last audit on record.")  # fmt: skip
@click.option("--until", metavar="DATE", help="Only runs that began until then (UTC; a date means its end).")  # fmt: skip
@click.option("--workspace", default="", help="The workspace to read, where the store is divided into some.")  # fmt: skip
@click.option("--model", "models", multiple=True, help="Only this registered model; alone, with the runs behind it; repeatable.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("carbon-audit"), show_default=True, help="Folder for the report.")  # fmt: skip
@click.option("--format", "formats", multiple=True, default=[REPORT_FORMATS], show_default=True, callback=chosen_formats, help="Report formats, with commas between or repeated: pdf, html, json, csv (with csvw), parquet, sarif, junit, oscal, markdown.")  # fmt: skip
@click.option("--look", "look_file", type=click.Path(path_type=Path, dir_okay=False), help="YAML file with the report's language, logo, colour and classification.")  # fmt: skip
@click.option("--seals", "with_seals", is_flag=True, help="Compare every run with its seal: one more read for each run.")  # fmt: skip
@click.option("--ledger", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="What a witness saw (see `witness`); compares files too. Implies --seals.")  # fmt: skip
@click.option("--attestation", "attested", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File of signed statements (`attest statement --out`); repeatable.")  # fmt: skip
@click.option("--sign", "key", metavar="KEY", help="Sign the report with this private key (name or file) for the use audit.")  # fmt: skip
@click.option("--compare", metavar="REPORT", help="Compare with an earlier report.json, or with the `last` audit on record.")  # fmt: skip
@click.option("--record", "on_record", is_flag=True, help="Put the audit on record in the store, in an experiment of its own.")  # fmt: skip
@click.option("--as-of", callback=_moment, metavar="DATE", help="Audit as of this moment (UTC); default: SOURCE_DATE_EPOCH where it is set, else now.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 3 when evidence is missing or not all could be read.")  # fmt: skip
@click.option("--fail-on", type=click.Choice(SEVERITIES), default="low", show_default=True, help="Exit with 1 only when a rule of this severity or worse failed.")  # fmt: skip
@click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="columns: straight from the database, for very many runs; plain: through MLflow; spark: buckets of a snapshot on a cluster. The answers are the same.")  # fmt: skip
@click.option("--memory", type=click.IntRange(min=128), default=1536, show_default=True, metavar="MB", help="What the columns (of one bucket) may take before they go to disk.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Threads; default: one for each processor.")  # fmt: skip
@click.option("--deadline", type=click.FloatRange(min=1), default=3600, show_default=True, metavar="SECONDS", help="What a server may take for all it is asked.")  # fmt: skip
@click.option("--all-findings", "findings_file", type=click.Path(path_type=Path, dir_okay=False), help="Write every answer of an audit in columns to this Parquet file too; of a snapshot in buckets, to a new folder of them.")  # fmt: skip
@click.option("--incremental", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="Keep the audit there; while nothing is written to the store, the next one uses it. Tells which runs were edited since.")  # fmt: skip
@pdf_signing
def command(
    store: str,
    policies: tuple[str, ...],
    out: Path,
    formats: tuple[str, ...],
    as_of: datetime | None,
    **rest: object,
) -> None:
    """Check runs, datasets and models against policies and write the report."""
    # Not cut to the second: a run that began in this second is there.
    moment = as_of or datetime.now(timezone.utc)
    click.get_current_context().with_resource(no_empty_folder_left(out))
    ensure_room(out, _ROOM_BYTES)
    if rest["on_record"] and "json" not in formats:
        formats = (*formats, "json")  # what the next audit compares with
    from mlflow_carbon.audit.select import AuditRequest
    from mlflow_carbon.cli._history import LAST, compared, first_of_its_kind, record
    from mlflow_carbon.cli._summary import print_summary
    from mlflow_carbon.policy.load import load_pack
    from mlflow_carbon.report.look import Look, load_look
    from mlflow_carbon.report.pango import pango_problem
    from mlflow_carbon.report.write import write_reports

    key = signing_key(str(rest["key"])) if rest["key"] else None  # before the work, not after it
    sign_pdf = pdf_signer(rest)
    ledger = rest["ledger"] if isinstance(rest["ledger"], Path) else None
    look = load_look(given) if isinstance(given := rest["look_file"], Path) else Look()
    packs = tuple(load_pack(policy) for policy in policies)
    query, question, last = _queries(rest, store, packs)
    request = AuditRequest(
        store=store,
        packs=packs,
        query=query,
        command=_repeat(
            store, policies, query, moment, *(["--seals"] if rest["with_seals"] else [])
        ),
        engine=str(rest["engine"]),
        memory_mb=int(str(rest["memory"])),
        jobs=int(str(rest["jobs"])),
        deadline_s=float(str(rest["deadline"])),
        later_runs=as_of is None,
        findings_file=file if isinstance(file := rest["findings_file"], Path) else None,
        attestations=attestations(_paths(rest["attested"])),
        seals=seal_check(store, ledger) if rest["with_seals"] or ledger else None,
    )
    with _nothing_new_is_no_error(last), _shown_progress() as progress:
        audit, told = _audited(request, moment, rest["incremental"], progress)
        if rest["compare"]:
            audit = compared(audit, str(rest["compare"]), question, store)
        progress("Writing the report", 0, None)
        with whole_or_nothing(out) as partial:
            written = write_reports(audit, partial, formats, look=look, sign_pdf=sign_pdf)
            if key is not None:
                written |= {"signature": sign(audit, written, key, partial)}
    files = {name: out / path.name for name, path in written.items()}
    print_summary(audit, files)
    if told:
        click.echo(told)
    if LAST in (rest["compare"], rest["since"]) and audit.change is None and last is None:
        click.echo(first_of_its_kind(bool(rest["on_record"])))
    if rest["on_record"]:
        click.echo(f"On record: {record(audit, [*files.values()], question, store)}.")
    if "pdf" in formats and "pdf" not in written:
        click.echo(f"No PDF: {pango_problem()}", err=True)
    sys.exit(exit_code(audit, strict=bool(rest["strict"]), fail_on=str(rest["fail_on"])))


@contextmanager
def _nothing_new_is_no_error(last: datetime | None) -> Iterator[None]:
    """End well where only what is new since the ``last`` audit was asked for and there is nothing."""
    try:
        yield
    except NothingToAuditError:
        if last is None:
            raise
        click.echo(f"No run ended since the last audit, {last:%Y-%m-%d %H:%M} UTC: nothing was audited.")  # fmt: skip
        sys.exit(0)


def _audited(
    request: AuditRequest, as_of: datetime, kept: object, progress: Progress
) -> tuple[Audit, str]:
    """The audit, and a word on what an earlier one was good for."""
    if isinstance(kept, Path):
        from mlflow_carbon.cli._kept import incremental_audit

        with no_empty_folder_left(kept):
            return incremental_audit(request, as_of, kept, progress)
    from mlflow_carbon.audit.run import run_audit

    return run_audit(request, as_of, progress), ""


def _queries(
    rest: Mapping[str, object], store: str, packs: tuple[Pack, ...]
) -> tuple[Query, str, datetime | None]:
    """What to read, the key of audits that ask the same, and the moment of the last one, where it matters.

    ``--since last`` reads the runs that have ended since: one that was still running then is seen once. Where no such
    audit is on record, it reads everything.
    """
    from mlflow_carbon.cli._history import LAST, key_of, last_moment
    from mlflow_carbon.evidence.filters import milliseconds
    from mlflow_carbon.evidence.query import Query

    asked = Query(
        experiments=_texts(rest["experiments"]),
        filter=str(rest["filter_"]),
        models=_texts(rest["models"]),
        until=_until(rest["until"]),
        workspace=str(rest["workspace"]),
    )
    if rest["since"] != LAST:
        query = replace(asked, since=_since(rest["since"]))
        if query.since and query.until and query.since > query.until:
            raise click.UsageError(
                f"--since {rest['since']} is later than --until {rest['until']}."
            )
        return query, key_of(packs, query), None
    if rest["compare"]:
        hint = "--since last reads a part of the runs; --compare needs all of them."
        raise click.UsageError(hint)
    # Kept apart: what looked at a part of the runs is nothing to compare a whole audit with.
    question, part = key_of(packs, asked), key_of(packs, f"{asked} since last")
    last = last_moment(store, question, part)
    if last is None:
        return asked, question, None
    ended = f"attributes.end_time >= {milliseconds(last)}"
    both = f"{asked.filter} and {ended}" if asked.filter else ended
    return replace(asked, filter=both), part, last


def _until(text: object) -> datetime | None:
    return None if text is None else _end_of(str(text))


def _since(text: object) -> datetime | None:
    """A date means its beginning."""
    if text is None:
        return None
    moment = _end_of(str(text))
    whole_day = "T" not in str(text) and " " not in str(text)
    return moment.replace(hour=0, minute=0, second=0) if whole_day else moment


def _texts(values: object) -> tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, tuple) else ()


def _paths(values: object) -> tuple[Path, ...]:
    return tuple(map(Path, values)) if isinstance(values, tuple) else ()


@contextmanager
def no_empty_folder_left(folder: Path) -> Iterator[None]:
    """Remove the folder, and those around it, that were made meanwhile and hold nothing at the end."""
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        yield
    finally:
        with suppress(OSError):  # the first that holds something
            for one in missing:
                one.rmdir()


def ensure_room(folder: Path, room_bytes: int) -> None:
    """Make the folder and check that files can be written there, before the work and not after it.

    Raises:
        OutputError: they cannot; says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror}). Choose another folder with --out."
        ) from None
    if free < room_bytes:
        raise OutputError(
            f"{folder}: only {free // 1024**2} MiB are free there, {room_bytes // 1024**2} MiB are "
            "needed. Free some space or choose another folder with --out."
        )


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder to write into; its files move to ``folder`` when all are written, else none does."""
    try:
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}).") from None
    try:
        yield partial
        for file in sorted(partial.iterdir()):
            file.replace(folder / file.name)
    except OSError as error:
        raise OutputError(
            f"{folder}: the report could not be written ({error.strerror or error}). "
            "No part of it was kept."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _repeat(
    store: str, policies: tuple[str, ...], query: object, as_of: datetime, *flags: str
) -> str:
    """The command line that repeats the audit; a password is not part of it."""
    from mlflow_carbon.evidence.address import redacted
    from mlflow_carbon.evidence.store import Query

    words = ["mlflow-carbon", "audit", "--store", redacted(store)]
    for policy in policies:
        words += ["--policy", policy]
    if isinstance(query, Query):
        for name in query.experiments:
            words += ["--experiment", name]
        words += ["--filter", query.filter] if query.filter else []
        words += ["--since", query.since.isoformat()] if query.since else []
        words += ["--until", query.until.isoformat()] if query.until else []
        words += ["--workspace", query.workspace] if query.workspace else []
        for name in query.models:
            words += ["--model", name]
    return shlex.join([*words, "--as-of", as_of.isoformat(), *flags])


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """A bar on a terminal, one plain line for each stage otherwise; both on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        stages: set[str] = set()

        def line(stage: str, _done: int, _total: int | None) -> None:
            if stage not in stages:
                stages.add(stage)
                click.echo(f"{stage} ...", err=True)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}

        def bar(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield bar


def exit_code(audit: Audit, *, strict: bool, fail_on: str) -> int:
    """The worst that happened: 1 a rule failed, 4 a rule could not be evaluated, 3 evidence incomplete."""
    from mlflow_carbon.policy.model import Severity, State

    def any_in(*states: State) -> bool:
        return any(summary.counts[state] for summary in audit.rules for state in states)

    if fail_on != "never" and any(
        summary.counts[State.FAIL] and summary.rule.severity.rank <= Severity(fail_on).rank
        for summary in audit.rules
    ):
        return 1
    if any_in(State.ERROR):
        return 4
    open_questions = any_in(State.NO_EVIDENCE, State.NEEDS_ATTESTATION)
    return 3 if strict and (open_questions or audit.selection.failed_to_read) else 0
