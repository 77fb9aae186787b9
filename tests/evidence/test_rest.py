"""Pages of a server put together: each run once, whatever happens while they are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from mlflow_carbon.evidence.rest import PAGE, read_pages, run_id_of
from mlflow_carbon.evidence.rest import _token as token_for


class Listing:
    """A server's list of runs, oldest first, in pages as MLflow gives them."""

    def __init__(self, count: int) -> None:
        self.ids = [f"run-{number:06}" for number in range(count)]
        self.asked: list[str] = []
        self.before: Callable[[int], None] = lambda _: None
        self._lock = threading.Lock()

    def __call__(self, token: str) -> Mapping[str, Any]:
        with self._lock:
            self.before(len(self.asked))
            self.asked.append(token)
            offset = self.offset(token)
            page = self.ids[offset : offset + PAGE]
            more = {"next_page_token": self.token(offset + PAGE)} if self.ids[offset + PAGE :] else {}  # fmt: skip
            return {"runs": [{"info": {"run_id": one}} for one in page], **more}

    def token(self, offset: int) -> str:
        return token_for(offset)

    def offset(self, token: str) -> int:
        return {self.token(offset): offset for offset in range(0, 20 * PAGE, 10)}[token] if token else 0  # fmt: skip


class Opaque(Listing):
    """One whose tokens say nothing."""

    def token(self, offset: int) -> str:
        return f"page after {offset}"


def soon() -> float:
    return time.monotonic() + 60


def read(listing: Listing) -> list[str]:
    return [run_id_of(run) for runs in read_pages(listing, soon()) for run in runs]


@given(st.sampled_from([0, 1, 999, 1000, 1001, 1989, 1990, 1991, 2980]) | st.integers(0, 9_000))
def test_every_run_comes_exactly_once(count: int) -> None:
    listing = Listing(count)
    assert sorted(read(listing)) == listing.ids


@pytest.mark.parametrize("count", [0, 1_000, 4_321])
def test_a_server_with_tokens_of_its_own_is_read_page_after_page(count: int) -> None:
    listing = Opaque(count)
    assert read(listing) == listing.ids
    assert len(listing.asked) == max(1, -(-count // PAGE))


def test_runs_that_begin_meanwhile_hide_no_other() -> None:
    listing = Listing(5_000)
    there = set(listing.ids)
    listing.before = lambda asked: listing.ids.append(f"run-9{asked:05}")
    found = read(listing)
    assert there <= set(found)
    assert len(found) == len(set(found))


def test_a_few_runs_deleted_meanwhile_hide_no_other() -> None:
    listing = Listing(5_000)
    kept = set(listing.ids[5:])
    listing.before = lambda asked: listing.ids.pop(0) if asked < 5 else None
    assert kept <= set(read(listing))


def test_many_runs_deleted_meanwhile_are_told() -> None:
    listing = Listing(5_000)
    listing.before = lambda asked: listing.ids.__delitem__(slice(0, 500 if asked == 2 else 0))
    with pytest.raises(ValueError, match="deleted while they were read"):
        read(listing)


def test_what_the_server_refuses_midway_ends_the_reading() -> None:
    listing = Listing(5_000)

    def refuse(asked: int) -> None:
        if asked == 3:
            raise MlflowException("no more for you")

    listing.before = refuse
    with pytest.raises(MlflowException, match="no more for you"):
        read(listing)


def test_a_server_that_keeps_a_request_open_is_not_waited_for_longer_than_allowed() -> None:
    listing, for_ever = Listing(3_000), threading.Event()
    listing.before = lambda asked: for_ever.wait() if asked == 1 else None  # type: ignore[func-returns-value]
    pages = read_pages(listing, time.monotonic() + 0.5)
    with pytest.raises(TimeoutError):
        list(pages)
    for_ever.set()
