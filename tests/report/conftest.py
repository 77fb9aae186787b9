"""One rendering of the sample for all report tests: a PDF takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.write import FORMATS, write_reports
from tests.report.sample import make_audit

# compliance-trestle, which has OSCAL's models, starts at Python 3.11.
collect_ignore = [] if sys.version_info >= (3, 11) else ["test_oscal.py"]


@pytest.fixture(scope="session")
def audit() -> Audit:
    return make_audit()


@pytest.fixture(scope="session")
def written(audit: Audit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every format of the sample."""
    return write_reports(audit, tmp_path_factory.mktemp("report"), tuple(FORMATS))
