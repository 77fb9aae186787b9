"""Hugging Face dataset cards: the YAML between the two ``---`` lines at the top, read as a dataset card."""

from __future__ import annotations

from pathlib import Path

from mlflow_carbon.datasets.bounded import as_text, node_text, read_head, yaml_fields
from mlflow_carbon.datasets.card import Card, make_card
from mlflow_carbon.errors import DataError

MAX_BYTES = 256 * 1024
"""Of the file that are looked at: the front matter of a card with many configurations is long."""

_LISTED = {
    "annotations_creators": "annotated by",
    "language_creators": "texts by",
}


def read_dataset_card(path: Path) -> Card:
    """The card. Its name is ``pretty_name``, or the file's name up to the first dot.

    Raises:
        DataError: unreadable, no front matter, or one that is too long or damaged.
    """
    content, more = read_head(path, MAX_BYTES)
    if more:  # the page below may be long and cut in the middle of a character
        content = content[: content.rfind(b"\n") + 1]
    lines = as_text(path, content).splitlines()
    if not lines or lines[0].strip() != "---":
        raise DataError(f"{path}:1: expected `---` and the front matter of a dataset card.")
    end = next((n for n, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if end is None:
        raise DataError(
            f"{path}:1: the front matter does not end with `---` within {MAX_BYTES // 1024} KiB."
        )
    found: dict[str, str] = {}
    for name, node, _ in yaml_fields(path, "\n".join(lines[1:end]), first_line=2):
        found.setdefault(name, node_text(node) or "")
    return make_card(path, _mapped(path, found))


def _mapped(path: Path, found: dict[str, str]) -> dict[str, str]:
    license_ = found.get("license", "")
    if license_ in ("", "other"):
        license_ = found.get("license_name", "") or license_
    method = [f"{words} {found[name]}" for name, words in _LISTED.items() if found.get(name)]
    return {
        "name": found.get("pretty_name") or path.name.partition(".")[0],
        "license": license_,
        "lineage": found.get("source_datasets", ""),
        "intended_use": found.get("task_categories", ""),
        "method": "; ".join(method),
        "declared_by": "its Hugging Face dataset card",
    }
