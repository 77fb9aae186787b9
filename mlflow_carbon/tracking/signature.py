"""The signature under a run's record, for those who gave a key. Without one a record is sealed only."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from mlflow_carbon.tracking.sealing import Seal


def signed(run_id: str, document: Seal, key_file: Path) -> bytes:
    """The envelope over the document.

    Raises:
        DataError: the key cannot be used.
    """
    # cryptography takes some 100 ms to import: only for those who asked for a signature.
    from mlflow_carbon.signing import keys, statement

    said = {"run_id": run_id, "param": document.param}
    subjects = {document.path: document.sha256}
    now = datetime.now(timezone.utc)
    key = keys.load(key_file)
    return statement.sign(statement.Kind.EVIDENCE, subjects, said, key, now).encode()
