"""``--sign-pdf`` and ``--pdf-password``: the options of every command that writes a PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)


def pdf_signing(command: _Command) -> _Command:
    """Add both options."""
    key = click.option("--sign-pdf", "pdf_key", type=_FILE, help="Sign the PDF (PAdES) with the key and certificate of this PKCS#12 file; needs the extra `pades`.")  # fmt: skip
    password = click.option("--pdf-password", "pdf_password", type=_FILE, help="File whose first line is the password of --sign-pdf.")  # fmt: skip
    return key(password(command))


def pdf_signer(options: Mapping[str, object]) -> Callable[[bytes], bytes] | None:
    """What signs the PDF, or ``None`` where it is not to be signed.

    Raises:
        OutputError: it cannot be signed; said before the work, not after it.
    """
    key, password = options["pdf_key"], options["pdf_password"]
    if not isinstance(key, Path):
        return None
    from mlflow_carbon.report.pades import signer

    now = datetime.now(timezone.utc)
    return signer(key, password if isinstance(password, Path) else None, now)
