"""Names made to attack: nothing is read, nothing is asked for, nothing leaves the page."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
import weasyprint
from weasyprint.urls import FatalURLFetchingError

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.evidence.model import Subject
from mlflow_carbon.report.pdf import only_own_files
from mlflow_carbon.report.write import FORMATS, write_reports
from tests.browser import chromium

SECRET = "canary-7f3a91"


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that notes every request."""
    asked: list[str] = []

    class Note(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Note)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def _attacks(url: str, file: str) -> list[str]:
    return [
        f'"><img src="{url}/img"><img src="{file}">',
        f"</style><style>@import url({url}/css); body{{background:url({file})}}</style>",
        f'<svg><image href="{url}/svg"/><script href="{url}/js"/></svg>',
        f"</title><link rel=attachment href={file}><link rel=stylesheet href={url}/link>",
        f"{{{{ ''.__class__.__mro__ }}}}{{% include '{file}' %}}${{jndi:{url}/j}}",
        f"]]></text><image href='{url}/chart'/>",
        f"![x]({url}/md) <{url}/auto>",
        f'=WEBSERVICE("{url}/csv")',
        f"<!DOCTYPE x [<!ENTITY e SYSTEM '{file}'>]>&e;",
    ]


def test_no_name_makes_a_report_read_a_file_or_ask_a_server(
    audit: Audit, canary: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = canary
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    attacks = _attacks(url, secret.as_uri())
    findings = tuple(
        replace(
            finding,
            subject=Subject(
                finding.subject.kind, attacks[n % len(attacks)], attacks[n % len(attacks)]
            ),
            message=attacks[(n + 1) % len(attacks)],
            observations=tuple(
                replace(o, observed=attacks[n % len(attacks)]) for o in finding.observations
            ),
        )
        for n, finding in enumerate(audit.findings)
    )
    rows = tuple(
        replace(row, name=attacks[n % len(attacks)], quality={attacks[0]: 0.1 * n})
        for n, row in enumerate(audit.energy.rows)
    )
    hostile = replace(
        audit,
        findings=findings,
        energy=replace(audit.energy, rows=rows, factors=tuple(attacks)),
        datasets=tuple(replace(d, name=attacks[2], origin=attacks[0]) for d in audit.datasets),
        power=tuple(replace(one, name=attacks[5]) for one in audit.power),
        selection=replace(
            audit.selection, experiments=tuple(attacks), store=attacks[0], filter=attacks[1]
        ),
        packs=tuple(replace(pack, title=attacks[3], owner=attacks[2]) for pack in audit.packs),
        command=attacks[5],
    )
    written = write_reports(hostile, tmp_path / "out", tuple(FORMATS))
    with chromium() as browser, browser.new_page() as page:
        page.goto(written["html"].as_uri())
        page.emulate_media(media="print")
        assert page.locator(".rule").count() > 0
        assert page.locator("main svg").count() == page.locator("figure").count()
    assert asked == []
    for path in written.values():
        assert SECRET.encode() not in path.read_bytes()
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        shown = "".join(page.get_textpage().get_text_bounded() for page in pdf)
    assert SECRET not in shown
    assert "@import url(" in shown.replace("\r\n", "")
    with pikepdf.open(written["pdf"]) as pdf:
        assert set(pdf.attachments) == {"report.json", "findings.csv"}
        links = [a for page in pdf.pages for a in page.get("/Annots", []) if "/A" in a]
        assert links == []


def test_the_canary_would_sing(canary: tuple[str, list[str]]) -> None:
    url, asked = canary
    weasyprint.HTML(string=f'<img src="{url}/img">').render()
    assert asked == ["/img"]


def test_the_renderer_refuses_every_address_that_is_not_its_own(
    canary: tuple[str, list[str]],
) -> None:
    url, asked = canary
    with pytest.raises(FatalURLFetchingError, match="not part of it"):
        weasyprint.HTML(string=f'<img src="{url}/img">', url_fetcher=only_own_files({})).render()
    with pytest.raises(FatalURLFetchingError, match="not part of it"):
        weasyprint.HTML(
            string='<img src="file:///etc/passwd">', url_fetcher=only_own_files({})
        ).render()
    assert asked == []


def test_no_text_leaves_the_page(written: dict[str, Path]) -> None:
    with pypdfium2.PdfDocument(written["pdf"]) as pdf:
        for number, page in enumerate(pdf):
            width, height = page.get_size()
            text = page.get_textpage()
            boxes = [text.get_charbox(place) for place in range(0, text.count_chars(), 3)]
            assert all(right <= width - 20 and left >= 0 for left, _, right, _ in boxes), number
            assert all(bottom >= 0 and top <= height for _, bottom, _, top in boxes), number
