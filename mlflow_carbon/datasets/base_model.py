"""The model a training started from: its name, exactly which one, and under which license.

A name on a hub, or a branch there, can mean another model tomorrow; a commit hash or the digest of a
folder cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_carbon.datasets.bounded import invisible
from mlflow_carbon.datasets.card import MAX_TEXT
from mlflow_carbon.datasets.files import fingerprint_path
from mlflow_carbon.datasets.huggingface import read_dataset_card
from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.errors import DataError

_WHOLE = 2**63
"""However large the folder is: half a digest pins nothing."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """An empty text means that it is not known."""

    name: str
    revision: str
    """Commit hash on the hub, or the SHA-256 of a folder."""
    license: str
    """SPDX expression or ``LicenseRef-*``."""


def base_model(model: object, *, revision: str = "", license: str = "") -> BaseModel:  # noqa: A002 - the field's word
    """Describe a model by its name on a hub, its folder or file, or a Hugging Face model that was loaded.

    What is given counts before what is found. A folder is read as a whole for its digest.

    Raises:
        DataError: it names nothing, its folder cannot be read, or a text holds invisible characters.
    """
    name, found = _named(model)
    folder = Path(name)
    if isinstance(model, Path) or folder.is_dir():
        print_ = fingerprint_path(folder, _WHOLE)
        if isinstance(print_, str):
            raise DataError(f"base model {str(model)[:200]!r}: {print_}.")
        license = license or _license_beside(folder)  # noqa: A001
        name, found = folder.resolve().name, print_.sha256
    given = {"name": name, "revision": revision or found, "license": license}
    for field, text in given.items():
        if bad := invisible(text):
            raise DataError(f"base model: its {field} holds the invisible character {bad}.")
    expression = normalized(license)
    return BaseModel(
        name=name[:MAX_TEXT],
        revision=(revision or found)[:MAX_TEXT],
        license="" if expression == NOT_KNOWN else expression,
    )


def _named(model: object) -> tuple[str, str]:
    """Name and revision, as Hugging Face's libraries keep them on a model they loaded."""
    if isinstance(model, (str, Path)):
        name, revision = str(model), ""
    else:
        config = getattr(model, "config", model)
        name = str(getattr(config, "_name_or_path", "") or "")
        revision = str(getattr(config, "_commit_hash", "") or "")
    if not name.strip():
        raise DataError(
            "base model: give its name on the hub, its folder, or the model that from_pretrained() gave."
        )
    return name, revision


def _license_beside(folder: Path) -> str:
    """Of the model card in the folder, if it says one."""
    try:
        return read_dataset_card(folder / "README.md").license
    except DataError:
        return ""
