"""The PDF: archivable, accessible, complete, and the same for the same input."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
import weasyprint

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.write import write_reports
from mlflow_carbon.units import Range
from tests.report.sample import HOSTILE
from tests.report.verapdf import failures


@pytest.fixture(scope="session")
def text(written: dict[str, Path]) -> str:
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        return "\n".join(page.get_textpage().get_text_bounded() for page in pdf)


@pytest.mark.parametrize("flavour", ["3a", "ua1"])
def test_the_pdf_conforms_to_pdf_a_3a_and_to_pdf_ua_1(
    written: dict[str, Path], flavour: str
) -> None:
    assert failures(written["pdf"], flavour) == []


def test_the_validator_refuses_a_file_without_tags(tmp_path: Path) -> None:
    plain = tmp_path / "plain.pdf"
    weasyprint.HTML(string="<p>words</p>" * 400).write_pdf(plain)
    assert failures(plain, "ua1")


def test_the_pdf_is_tagged_named_and_in_a_language(written: dict[str, Path]) -> None:
    with pikepdf.open(written["pdf"]) as pdf:
        root = pdf.Root
        assert root.MarkInfo.Marked
        assert str(root.Lang) == "en"
        assert root.StructTreeRoot.K
        assert root.ViewerPreferences.DisplayDocTitle
        assert root.OutputIntents
        assert not pdf.is_encrypted
        assert "/JavaScript" not in root.get("/Names", {})
        with pdf.open_metadata() as metadata:
            assert metadata["pdfaid:part"] == "3"
            assert metadata["pdfaid:conformance"] == "A"
            assert metadata["{http://www.aiim.org/pdfua/ns/id/}part"] == "1"
            assert "Audit" in metadata["dc:title"]


def test_the_data_is_attached_and_its_printed_hash_is_right(
    written: dict[str, Path], text: str
) -> None:
    squeezed = re.sub(r"\s", "", text)
    with pikepdf.open(written["pdf"]) as pdf:
        assert {str(spec.AFRelationship) for spec in pdf.Root.AF} == {"/Data"}
        assert set(pdf.attachments) == {"report.json", "findings.csv"}
        for name in pdf.attachments:
            content = pdf.attachments[name].get_file().read_bytes()
            assert content == (written["pdf"].parent / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() in squeezed


def test_the_pdf_has_bookmarks_for_parts_and_rules(written: dict[str, Path]) -> None:
    with pikepdf.open(written["pdf"]) as pdf, pdf.open_outline() as outline:
        titles = [str(item.title) for item in outline.root]
        assert len(titles) == 12
        findings = next(item for item in outline.root if "Findings" in str(item.title))
        assert any("EVL-005" in str(item.title) for item in findings.children)


def test_only_the_shipped_fonts_are_in_the_pdf(written: dict[str, Path]) -> None:
    names = set()
    with pikepdf.open(written["pdf"]) as pdf:
        for page in pdf.pages:
            for font in page.Resources.get("/Font", {}).values():
                names.add(str(font.BaseFont).partition("+")[2])
    assert names
    assert all(re.match(r"IBM-?Plex|DejaVu", name) for name in names), names


def test_every_page_has_its_number_and_the_part_in_the_header(written: dict[str, Path]) -> None:
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        total = len(pdf)
        for number in range(1, total):
            seen = pdf[number].get_textpage().get_text_bounded()
            assert f"Page {number + 1} of {total}" in seen


def test_hostile_names_are_shown_as_text(text: str) -> None:
    squeezed = re.sub(r"\s", "", text)
    assert "<script>alert('x')</script>" in squeezed
    assert "}}</style><style>" in squeezed
    assert r"credit\u202egnp.exe" in squeezed
    assert r"batch\x00\x1b[31m-7\x07" in squeezed
    assert "{{7*7}}" in squeezed
    assert "8,000characters" in squeezed
    assert "[U+6570]" in squeezed
    assert "root:x:0:0" not in text
    assert len(HOSTILE[6]) == 8000
    assert "w" * 200 not in squeezed


_BUILD = """
import sys, pathlib
from tests.report.sample import make_audit
from mlflow_carbon.report.write import write_reports
write_reports(make_audit(), pathlib.Path(sys.argv[1]), ("pdf",))
"""


def test_the_same_audit_gives_the_same_bytes_in_another_process(
    written: dict[str, Path], tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", _BUILD, str(tmp_path)], check=True, env=env, timeout=120)
    assert (tmp_path / "report.pdf").read_bytes() == written["pdf"].read_bytes()


def test_the_attached_json_is_the_audit(written: dict[str, Path]) -> None:
    with pikepdf.open(written["pdf"]) as pdf:
        data = json.loads(pdf.attachments["report.json"].get_file().read_bytes())
    assert data["states"]["fail"] == 26


def test_bounds_of_very_small_figures_stay_in_their_column(audit: Audit, tmp_path: Path) -> None:
    small = replace(
        audit.energy.rows[0], energy_j=Range(0.0324, 0.08, 0.17676), emissions_g=Range(2.22e-7, 1e-5, 2.61e-5)
    )  # fmt: skip
    account = replace(audit.energy, rows=(small,))
    written = write_reports(replace(audit, energy=account), tmp_path, ("pdf",))
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        places = [found for page in pdf if (found := _bounds(page.get_textpage()))]
    assert len(places) == 1
    (energy_right, carbon_left) = places[0]
    assert energy_right < carbon_left


def _bounds(text: pypdfium2.PdfTextPage) -> tuple[float, float] | None:
    """Where the bounds of energy end, and where those of carbon begin."""
    energy, carbon = (text.search(part).get_next() for part in ("0.0491 mWh)", "(0.000222"))
    if energy is None or carbon is None:
        return None
    return text.get_charbox(sum(energy) - 1)[2], text.get_charbox(carbon[0])[0]
