"""Language, logo, colour and classification by one file; what cannot be used is refused."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path

import numpy as np
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
        "attested",
    ):
        label = on if name in {"pass", "fail", "error"} else off
        assert _contrast(INK[scheme][name], label) >= 4.5, name


def test_states_next_to_one_another_differ_in_lightness_for_print_without_colour() -> None:
    ink = INK["light"]
    for one, other in (
        ("pass", "no_evidence"),
        ("fail", "no_evidence"),
        ("pass", "attested"),
        ("gpu", "cpu"),
        ("cpu", "dram"),
    ):
        assert _contrast(ink[one], ink[other]) >= 1.8, (one, other)


# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; for linear RGB.
_VISION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
# Linear sRGB to CIE XYZ (IEC 61966-2-1), scaled to the white point D65.
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_XYZ /= _XYZ.sum(axis=1, keepdims=True)


def _seen(colour: str, vision: str) -> np.ndarray:
    """CIELAB of a colour as somebody with this vision sees it."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(np.maximum(_XYZ @ (np.array(_VISION[vision]) @ linear).clip(0, 1), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", sorted(_VISION))
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_fills_of_one_chart_stay_apart_for_the_colour_blind(scheme: str, vision: str) -> None:
    """Several times the difference of 2.3 that is just noticed."""
    states = ("pass", "fail", "no_evidence", "not_applicable", "needs_attestation", "waived", "error")  # fmt: skip
    controls = ("fail", "no_evidence", "pass", "attested", "not_applicable")
    for chart in (states, controls, ("gpu", "cpu", "dram", "rest")):
        for one, other in itertools.combinations(chart, 2):
            difference = np.linalg.norm(
                _seen(INK[scheme][one], vision) - _seen(INK[scheme][other], vision)
            )
            assert difference >= 7, (one, other, difference)
