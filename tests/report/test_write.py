"""Reports on disk: whole or not at all, and a message that helps."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import OutputError, SettingsError
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.pango import install_command, pango_problem
from mlflow_carbon.report.write import write_file, write_reports


def test_every_format_asked_for_is_written_and_nothing_else(audit: Audit, tmp_path: Path) -> None:
    written = write_reports(audit, tmp_path / "new" / "folder", ("html", "json"))
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "report.html",
        "report.json",
    }
    assert written["html"].name == "report.html"


def test_an_unknown_format_is_refused_with_those_there_are(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'docx'\. There are: json, csv, .*pdf"):
        write_reports(audit, tmp_path, ("docx",))


def test_an_unknown_language_is_refused_with_those_there_are(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'tlh'\. There are: .*en"):
        write_reports(audit, tmp_path, ("json",), look=Look(language="tlh"))


def test_a_folder_that_is_a_file_is_a_clear_error(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match="Choose another folder"):
        write_reports(audit, tmp_path / "taken", ("json",))
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_file_in_the_place_of_the_target_stays_when_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"report\.json"):
        write_file(tmp_path / "report.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


_NO_SPACE = """
import pathlib, resource, signal, sys
from mlflow_carbon.errors import OutputError
from mlflow_carbon.report.write import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(pathlib.Path(sys.argv[1]), b"x" * 5000)
except OutputError as error:
    print(error)
"""


def test_no_room_leaves_the_old_report_and_no_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("the old report")
    done = subprocess.run(
        [sys.executable, "-c", _NO_SPACE, str(target)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "cannot be written" in done.stdout
    assert target.read_text() == "the old report"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_pango_is_found_where_pdfs_are_made() -> None:
    assert pango_problem() is None


_NO_PANGO = """
import sys
from pathlib import Path
from mlflow_carbon.report.pango import pango_problem
from mlflow_carbon.report.write import write_reports
from tests.report.sample import make_audit

print(*write_reports(make_audit(), Path(sys.argv[1]), ("pdf", "html")))
print(pango_problem())
"""


def test_without_pango_the_page_is_written_and_what_is_missing_is_told_with_the_command(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "lib"
    broken.mkdir()
    (broken / "libpango-1.0.so.0").touch()  # the loader finds this one first and cannot open it
    done = subprocess.run(
        [sys.executable, "-c", _NO_PANGO, str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LD_LIBRARY_PATH": str(broken)},
    )
    written, problem = done.stdout.splitlines()
    assert written == "html"
    assert problem.startswith("PDF reports need Pango, and pango-1.0")
    assert "cannot be loaded on this system" in problem
    assert "Install it with: " in problem
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("system", "release", "words"),
    [
        ("Linux", {"ID": "debian"}, "apt-get install"),
        ("Linux", {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt-get install"),
        ("Linux", {"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf install"),
        ("Linux", {"ID": "alpine"}, "apk add"),
        ("Linux", {}, "package manager"),
        ("Darwin", {}, "brew install pango"),
    ],
)
def test_the_command_that_installs_pango_is_the_one_of_the_system(
    system: str, release: dict[str, str], words: str
) -> None:
    assert words in install_command(system, release)
