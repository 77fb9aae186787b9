"""A real Chromium for tests of pages: ``.ci/browser`` finds or installs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def browser_path() -> str:
    """The browser; a machine without one fails, it does not skip."""
    named = os.environ.get("MLFLOW_CARBON_TEST_BROWSER")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None and Path(_MAC).exists():
        found = _MAC
    assert found, "no browser: run `make browser`"
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser of its own, closed at the end."""
    # The sandbox needs user namespaces, which containers often lack; the pages are our own.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=arguments)
        yield browser
        browser.close()
