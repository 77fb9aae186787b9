"""Every answer as one row of a Parquet file: the columns of the CSV, values as they are.

The file's metadata has the selection, as report.json tells it.
"""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.csv import COLUMNS, values
from mlflow_carbon.report.json import selection

SELECTION = "mlflow_carbon.selection"
"""Its key in the metadata."""


def render(audit: Audit) -> bytes:
    """All columns are text and never null, the same for every audit."""
    rows = [values(finding) for finding in audit.findings]
    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    schema = pa.schema(
        [pa.field(name, pa.string(), nullable=False) for name in COLUMNS],
        metadata={SELECTION: json.dumps(selection(audit.selection))},
    )
    arrays = [pa.array([_storable(text) for text in column], pa.string()) for column in columns]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), out, compression="zstd")
    return out.getvalue()


def _storable(text: str) -> str:
    """Parquet's text is UTF-8: a lone surrogate becomes its code point."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
