"""``mlflow-carbon report``: an audit told again, in other formats, another language or look."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from mlflow_carbon.cli._pades import pdf_signer, pdf_signing
from mlflow_carbon.cli.audit import FORMATS, REPORT_FORMATS, chosen_formats
from mlflow_carbon.errors import DataError


@click.command()
@click.argument("source", metavar="REPORT")
@click.option("--store", envvar="MLFLOW_TRACKING_URI", help="Address of the MLflow store that holds the recorded audit.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("carbon-audit"), show_default=True, help="Folder for the report.")  # fmt: skip
@click.option("--format", "formats", multiple=True, default=[REPORT_FORMATS], show_default=True, callback=chosen_formats, help=f"Report formats, with commas between or repeated: {', '.join(FORMATS)}.")  # fmt: skip
@click.option("--look", "look_file", type=click.Path(path_type=Path, dir_okay=False), help="YAML file with the report's language, logo, colour and classification.")  # fmt: skip
@pdf_signing
def command(
    source: str,
    store: str | None,
    out: Path,
    formats: tuple[str, ...],
    look_file: Path | None,
    **signing: object,
) -> None:
    """Write the report of an audit again, without auditing again.

    REPORT is a report.json, the folder it is in, or runs:/RUN_ID of an audit on record (with --store).
    Nothing of the audited store is read, so the answers are those of then.
    """
    from mlflow_carbon.cli.audit import no_empty_folder_left, whole_or_nothing
    from mlflow_carbon.report.look import Look, load_look
    from mlflow_carbon.report.pango import pango_problem
    from mlflow_carbon.report.read import read_audit
    from mlflow_carbon.report.write import make_folder, write_reports

    sign_pdf = pdf_signer(signing)
    content = _content(source, store)
    audit = read_audit(content, source)
    look = load_look(look_file) if look_file else Look()
    with no_empty_folder_left(out):
        make_folder(out)
        with whole_or_nothing(out) as partial:
            written = write_reports(audit, partial, formats, look=look, sign_pdf=sign_pdf)
    click.echo(f"Read: {source}, audit of {audit.as_of:%Y-%m-%d %H:%M} UTC, SHA-256 {hashlib.sha256(content).hexdigest()}")  # fmt: skip
    for path in written.values():
        click.echo(f"Written: {out / path.name}")
    if "pdf" in formats and "pdf" not in written:
        click.echo(f"No PDF: {pango_problem()}", err=True)


def _content(source: str, store: str | None) -> bytes:
    if source.startswith("runs:/"):
        if not store:
            raise click.UsageError(f"{source} is in a store: name it with --store.")
        from mlflow_carbon.evidence.history import History

        return History(store).report_of(source.removeprefix("runs:/").strip("/"))
    path = Path(source)
    try:
        return (path / "report.json" if path.is_dir() else path).read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}.") from None
