"""Small text files written by others: never more than so much of them, nothing built from them, nothing fetched."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from mlflow_carbon.errors import DataError


def read_head(path: Path, limit_bytes: int) -> tuple[bytes, bool]:
    """The start of a file, and whether there is more.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path}: cannot be read: it is not there, or no file.")
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    return content[:limit_bytes], len(content) > limit_bytes


def as_text(path: Path, content: bytes) -> str:
    """UTF-8, with or without its mark.

    Raises:
        DataError: it is something else.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text.") from None


def yaml_fields(path: Path, text: str, first_line: int = 1) -> list[tuple[str, Any, int]]:
    """Name, node and line of every field at the top of a YAML mapping; dates and ``no`` stay text.

    Raises:
        DataError: damaged, or no mapping.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise DataError(f"{path}: nested too deeply.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first_line + (mark.line if mark is not None else 0)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "damaged"
        raise DataError(f"{path}:{line}: not valid YAML: {problem}.") from None
    if not isinstance(root, yaml.MappingNode):
        raise DataError(f"{path}:{first_line}: expected `field: value` lines.")
    return [
        (key.value if isinstance(key.value, str) else "", node, key.start_mark.line + first_line)
        for key, node in root.value
    ]


_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "seq")
}


def node_text(node: Any) -> str | None:
    """A text, or texts joined by commas; ``None`` for anything else, such as a tag that asks for an object."""
    import yaml

    if node.tag not in _PLAIN_TAGS:
        return None
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == "tag:yaml.org,2002:null" else " ".join(str(node.value).split())
    if isinstance(node, yaml.SequenceNode):
        texts = [node_text(item) for item in node.value if isinstance(item, yaml.ScalarNode)]
        if len(texts) == len(node.value) and None not in texts:
            return ", ".join(text for text in texts if text)
    return None


def invisible(text: str) -> str:
    """The first character that would change how the text is shown, as ``U+202E``."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs"):
            return f"U+{ord(character):04X}"
    return ""
