"""The page: one file, nothing fetched, usable with a keyboard, hostile names as text."""

from __future__ import annotations

import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tinyhtml5.parser import HTMLParser as HTMLParser5  # html5lib as WeasyPrint maintains it

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.write import write_reports

_VOID = {"meta", "link", "input", "img", "br", "hr", "col"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="session")
def source(written: dict[str, Path]) -> str:
    return written["html"].read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(source: str) -> _Page:
    parser = _Page()
    parser.feed(source)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_parser_that_follows_the_html_standard_reports_no_error(
    language: str, audit: Audit, tmp_path: Path
) -> None:
    written = write_reports(audit, tmp_path, ("html",), look=Look(language=language))
    parser = HTMLParser5()
    with written["html"].open("rb") as file:
        parser.parse(file)
    assert parser.errors == []


def test_the_parser_of_the_html_standard_reports_a_paragraph_closed_twice() -> None:
    parser = HTMLParser5()
    parser.parse(io.BytesIO(b"<!DOCTYPE html><title>x</title><p><div></div></p>"))
    assert [code for _, code, _ in parser.errors] == ["unexpected-end-tag"]


def test_nothing_is_fetched(page: _Page, source: str) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, value)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        assert not any(name.startswith("on") for name in attributes)
        assert "style" not in attributes
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    assert all(address.startswith("data:") for address in re.findall(r"url\(([^)]*)\)", style))
    assert "@import" not in style


def test_only_the_pages_own_script_and_style_may_run(page: _Page) -> None:
    (policy,) = (
        str(attributes["content"])
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_hostile_names_are_text(page: _Page, source: str) -> None:
    text = "".join(page.text)
    assert "<script>alert('x')</script><img src=file:///etc/passwd>" in text
    assert "{{ 7*7 }}" in text
    assert "\u202e" not in source
    assert "\x00" not in source
    assert "w" * 200 not in source


def test_headings_do_not_skip_a_level_and_every_table_and_field_is_named(page: _Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    main = levels[levels.index(1) :]
    assert main.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(main))
    labelled = {attributes.get("for") for tag, attributes in page.tags if tag == "label"}
    fields = {attributes["id"] for tag, attributes in page.tags if tag in {"select", "input"}}
    assert fields <= labelled
    data_tables = [
        a for tag, a in page.tags if tag == "table" and "data" in str(a.get("class")).split()
    ]
    assert len(data_tables) == [tag for tag, _ in page.tags].count("caption")
    assert all(a.get("scope") in {"row", "col"} for tag, a in page.tags if tag == "th")


def test_every_drawing_says_what_it_shows(page: _Page) -> None:
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) >= 5
    assert all(a.get("role") == "img" and len(str(a.get("aria-label"))) > 40 for a in drawings)


def test_ids_are_unique_and_links_lead_somewhere(page: _Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in page.tags if tag == "a"} <= set(ids)


def test_a_waiver_tells_what_is_done_instead(source: str) -> None:
    assert "Meanwhile: The catalogue team compares digests by hand." in source
