"""Language, logo, colour and classification by one file; what cannot be used is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pypdfium2
import pytest

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.errors import DataError
from mlflow_carbon.report.charts import INK, ON
from mlflow_carbon.report.look import Look, contrast_on_white, load_look
from mlflow_carbon.report.page import SCHEMES
from mlflow_carbon.report.write import write_reports
from tests.report.verapdf import failures

# A red dot, 1 x 1 pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def _file(folder: Path, text: str) -> Path:
    path = folder / "look.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_german_report_with_logo_and_classification_conforms_too(
    audit: Audit, tmp_path: Path
) -> None:
    (tmp_path / "logo.png").write_bytes(PNG)
    look = load_look(
        _file(
            tmp_path,
            'language: de\nclassification: "Nur intern; } */ \\"x\\""\naccent: "#5b2a86"\nlogo: logo.png\nlogo_text: Beispielbank\n',
        )
    )
    written = write_reports(audit, tmp_path / "out", ("pdf", "html"), look=look)
    assert failures(written["pdf"], "ua1") == []
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        pages = [page.get_textpage().get_text_bounded() for page in pdf]
    assert "Prüfung von Energie, CO2 und Datenherkunft" in pages[0].replace("\r\n", " ")
    assert all('Nur intern; } */ "x"' in page for page in pages)
    assert f"Seite 5 von {len(pages)}" in pages[4]
    assert "3,11 kWh" in "".join(pages)
    html = written["html"].read_text(encoding="utf-8")
    assert '<html lang="de">' in html
    assert 'alt="Beispielbank"' in html
    assert "--accent:#5b2a86" in html


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour: red", "nothing is called 'colour'"),
        ("acent: '#000000'", "Did you mean 'accent'"),
        ("accent: red", "must look like"),
        ("accent: '#ffee00'", "too light to be read"),
        ("accent: '#000000;} body{}'", "must look like"),
        ("classification: 7", "put it in quotes"),
        ("logo: /no/such.png", "cannot be read"),
        ("logo: look.yaml", "neither PNG nor JPEG"),
        ("- a", "no mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_look_that_cannot_be_used_is_refused_and_says_why(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        load_look(_file(tmp_path, text))


def test_no_look_is_the_shipped_look() -> None:
    assert contrast_on_white(Look().accent) > 4.5


def _contrast(one: str, other: str) -> float:
    low, high = sorted((1.05 / contrast_on_white(one), 1.05 / contrast_on_white(other)))
    return high / low


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_its_ground(scheme: str) -> None:
    colours = SCHEMES[scheme]
    words = [colour for name, colour in colours.items() if name.startswith("st-")]
    for colour in (*words, colours["text"], colours["soft"], colours["accent"]):
        assert _contrast(colour, colours["ground"]) >= 4.5
        assert _contrast(colour, colours["tint"]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_in_the_charts_can_be_read_on_their_fill(scheme: str) -> None:
    on, off = ON[scheme]
    for name in (
        "pass",
        "fail",
        "no_evidence",
        "not_applicable",
        "needs_attestation",
        "waived",
        "error",
    ):
        label = on if name in {"pass", "fail", "error"} else off
        assert _contrast(INK[scheme][name], label) >= 4.5, name


def test_states_next_to_one_another_differ_in_lightness_for_print_without_colour() -> None:
    ink = INK["light"]
    for one, other in (
        ("pass", "no_evidence"),
        ("fail", "no_evidence"),
        ("gpu", "cpu"),
        ("cpu", "dram"),
    ):
        assert _contrast(ink[one], ink[other]) >= 1.8, (one, other)
