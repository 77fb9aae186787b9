"""Pages of measured figures: a text that stands still, and tables that a benchmark writes between markers."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def write_page(
    name: str, parts: Sequence[str], tables: Mapping[str, Sequence[str]], **words: str
) -> str:
    """Write ``docs/benchmarks/NAME.md`` from ``NAME_page.md`` beside this file and return its text.

    ``tables`` are the parts measured now; the others stay as they are. ``words`` are put in for ``@WORD@``.
    """
    target = ROOT / f"docs/benchmarks/{name}.md"
    text = Path(__file__).with_name(f"{name}_page.md").read_text(encoding="utf-8")
    words = {"python": platform.python_version(), "cpus": str(os.cpu_count()), **words}
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    old = target.read_text(encoding="utf-8") if target.exists() else ""
    when = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
    note = f"Measured {when}, load average of the last 15 minutes {os.getloadavg()[2]:.1f}."
    for part in parts:
        if part in tables:
            table = "\n".join([note, "", *tables[part]])
        else:  # as it was
            table = old.partition(f"<!-- {part} -->\n")[2].partition("\n<!-- end -->")[0]
        text = text.replace(f"@{part}@", f"<!-- {part} -->\n{table}\n<!-- end -->")
    target.write_text(text, encoding="utf-8")
    return text
