"""What stands beside ``findings.csv``: its columns and the selection, as CSV on the Web has it (W3C).

The CSV itself has no place for the selection that every spreadsheet would leave alone. Readers of
CSV on the Web look for this file under the name of the CSV with ``-metadata.json`` behind it.
"""

from __future__ import annotations

import json

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.csv import COLUMNS
from mlflow_carbon.report.json import selection

_CONTEXT = "http://www.w3.org/ns/csvw"


def render(audit: Audit) -> bytes:
    """One table; the selection is a note on it, as report.json tells it."""
    table = {
        "@context": _CONTEXT,
        "url": "findings.csv",
        "notes": [{"selection": selection(audit.selection)}],
        "tableSchema": {
            "columns": [{"name": name, "titles": name, "datatype": "string"} for name in COLUMNS]
        },
    }
    return json.dumps(table, ensure_ascii=True, indent=1, allow_nan=False).encode() + b"\n"
