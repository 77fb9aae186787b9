"""Reports on disk: each file whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import OutputError
from mlflow_carbon.report import (
    csv,
    csvw,
    html,
    json,
    junit,
    markdown,
    oscal,
    parquet,
    pdf,
    sarif,
    texts,
)
from mlflow_carbon.report.blocks import Document
from mlflow_carbon.report.context import Attached
from mlflow_carbon.report.document import build
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.pango import pango_problem


@dataclass(frozen=True)
class _Job:
    """What every format is made from; the parts that cost something are made once."""

    audit: Audit
    words: texts.Texts
    look: Look
    attached: tuple[Attached, ...]
    document: Document


def _pdf(job: _Job) -> bytes:
    return pdf.render(job.document, job.words, job.attached, job.audit.as_of, job.look)


def _markdown(job: _Job) -> bytes:
    short = build(job.audit, job.words, attached=job.attached, detail_rows=markdown.DETAIL_ROWS)
    return markdown.render(short, job.words)


FORMATS: Mapping[str, tuple[str, Callable[[_Job], bytes]]] = {
    "json": ("report.json", lambda job: job.attached[0].content),
    "csv": ("findings.csv", lambda job: job.attached[1].content),
    "csvw": ("findings.csv-metadata.json", lambda job: csvw.render(job.audit)),
    "parquet": ("findings.parquet", lambda job: parquet.render(job.audit)),
    "sarif": ("report.sarif", lambda job: sarif.render(job.audit)),
    "oscal": ("oscal-assessment-results.json", lambda job: oscal.render(job.audit)),
    "junit": ("junit.xml", lambda job: junit.render(job.audit)),
    "markdown": ("report.md", _markdown),
    "html": ("report.html", lambda job: html.render(job.document, job.words, job.look)),
    "pdf": ("report.pdf", _pdf),
}
"""Format -> (file name, renderer), in the order they are written: PDF, the slowest, last."""


def write_reports(
    audit: Audit,
    out_dir: Path,
    formats: Sequence[str] = ("html", "json", "pdf"),
    *,
    look: Look | None = None,
    sign_pdf: Callable[[bytes], bytes] | None = None,
) -> dict[str, Path]:
    """Write the formats asked for and say where each one is; with ``csv`` comes ``csvw``, its metadata.

    A PDF that cannot be made because Pango is missing is left out of the answer; the other
    files are written all the same. Ask ``pango_problem`` for the reason.

    Raises:
        OutputError: a format is not known, or the folder cannot be written to.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        known = ", ".join(FORMATS)
        raise OutputError(f"no report format is called {unknown[0]!r}. There are: {known}.")
    look = look or Look()
    job = _job(audit, texts.load(look.language), look)
    make_folder(out_dir)
    asked = {*formats, *(("csvw",) if "csv" in formats else ())}
    wanted = [name for name in FORMATS if name in asked and not (name == "pdf" and pango_problem())]
    written: dict[str, Path] = {}
    for name in wanted:
        file_name, render = FORMATS[name]
        written[name] = out_dir / file_name
        content = render(job)
        if name == "pdf" and sign_pdf is not None:
            content = sign_pdf(content)
        write_file(written[name], content)
    return written


def _job(audit: Audit, words: texts.Texts, look: Look) -> _Job:
    attached = (
        _attached("report.json", "application/json", json.render(audit)),
        _attached("findings.csv", "text/csv", csv.render(audit)),
    )
    made = build(audit, words, attached=attached, classification=look.classification)
    return _Job(audit, words, look, attached, made)


def _attached(name: str, media_type: str, content: bytes) -> Attached:
    return Attached(name, media_type, content, hashlib.sha256(content).hexdigest())


def make_folder(folder: Path) -> None:
    """Make the folder that reports are written to.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(_problem(folder, error)) from None


def write_file(path: Path, content: bytes) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one, never half.

    Raises:
        OutputError: no permission, no space, or not a folder; the old file is still there.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(_problem(path.parent, error)) from None
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(_problem(path, error)) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _problem(path: Path, error: OSError) -> str:
    advice = {
        errno.EACCES: "You have no permission to write there. Choose another folder with --out.",
        errno.EPERM: "You have no permission to write there. Choose another folder with --out.",
        errno.EROFS: "The file system is read-only. Choose another folder with --out.",
        errno.ENOSPC: "No space is left. Free some, or choose another folder with --out.",
        errno.EDQUOT: "Your quota is used up. Free some space, or choose another folder with --out.",
        errno.ENOTDIR: "A part of the path is a file. Choose another folder with --out.",
        errno.EEXIST: "There is a file of that name. Choose another folder with --out.",
        errno.EISDIR: "There is a folder of that name. Move it, or choose another folder with --out.",
    }
    what = os.strerror(error.errno) if error.errno else str(error)
    return f"{path}: the report cannot be written ({what}). {advice.get(error.errno or 0, 'Choose another folder with --out.')}"
