"""A PAdES signature (baseline B-B, ETSI EN 319 142-1) on the PDF report, by pyHanko: extra ``pades``.

The signature is added behind the finished file, so that what was rendered stays byte for byte
as it was, and the file stays PDF/A-3a and PDF/UA-1. The signature field is not visible.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_carbon.errors import OutputError

FIELD = "Report"


def signer(key: Path, password_file: Path | None, now: datetime) -> Callable[[bytes], bytes]:
    """What signs PDFs with the key and certificates of a PKCS#12 file (``.p12``, ``.pfx``).

    Raises:
        OutputError: pyHanko is missing, the file cannot be opened, or its certificate is not valid now.
    """
    try:
        from pyhanko.sign import signers
    except ImportError:
        raise OutputError(
            "signing PDFs needs pyHanko: pip install 'mlflow-carbon[pades]'"
        ) from None
    content, password = _read(key), b""
    if password_file is not None:
        password = _read(password_file).split(b"\n")[0].rstrip(b"\r")
    try:
        # From bytes in memory: pyHanko itself would only log what is wrong with a file.
        opened = signers.SimpleSigner.load_pkcs12_data(content, (), passphrase=password or None)
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{key}: cannot be opened: it is no PKCS#12 file, or the password is not the right one "
            f"({type(error).__name__}). The password is the first line of the file --pdf-password names."
        ) from None
    _check(key, opened, now)
    return lambda pdf: _signed(pdf, opened)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}.") from None


def _check(key: Path, opened: Any, now: datetime) -> None:
    if opened is None or opened.signing_cert is None:
        raise OutputError(f"{key}: holds no private key with its certificate.")
    validity = opened.signing_cert["tbs_certificate"]["validity"]
    start, end = validity["not_before"].native, validity["not_after"].native
    if not start <= now <= end:
        raise OutputError(
            f"{key}: its certificate is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d} only. "
            "Sign with one that is valid today."
        )


def _signed(pdf: bytes, opened: Any) -> bytes:
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign import fields, signers

    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD, md_algorithm="sha256", subfilter=fields.SigSeedSubFilter.PADES
    )
    made: io.BytesIO = signers.PdfSigner(metadata, opened).sign_pdf(writer)
    return made.getvalue()
