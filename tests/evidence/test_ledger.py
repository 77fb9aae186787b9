from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.errors import OutputError, StoreError
from mlflow_carbon.evidence.ledger import GENESIS, Ledger

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "ledger.jsonl")


def test_entries_are_read_back_in_order_and_each_seals_the_one_before(ledger: Ledger) -> None:
    first, second = ledger.append({"what": "a"}, NOW), ledger.append({"what": "é\n"}, NOW)
    chain = ledger.read()
    assert chain.entries == (first, second)
    assert chain.faults == ()
    assert chain.head == second.sha256
    assert first.sha256 in ledger.path.read_text().splitlines()[1]


def test_no_file_is_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.read().entries == ()
    assert ledger.read().head == GENESIS


def _written(ledger: Ledger) -> list[str]:
    for word in "abcd":
        ledger.append({"what": word}, NOW)
    return ledger.path.read_text().splitlines(keepends=True)


def test_a_changed_line_is_found(ledger: Ledger) -> None:
    lines = _written(ledger)
    ledger.path.write_text("".join(lines).replace('"what":"b"', '"what":"x"'))
    faults = ledger.read().faults
    assert faults == (
        "line 2 is damaged or was changed",
        "line 3 does not follow the line before it",
        "line 4 does not follow the line before it",
    )


def test_a_removed_line_is_found(ledger: Ledger) -> None:
    lines = _written(ledger)
    ledger.path.write_text("".join([lines[0], *lines[2:]]))
    assert ledger.read().faults[0] == "line 2 does not follow the line before it"


def test_a_moved_line_is_found(ledger: Ledger) -> None:
    lines = _written(ledger)
    ledger.path.write_text("".join([lines[1], lines[0], *lines[2:]]))
    assert ledger.read().faults[0] == "line 1 does not follow the line before it"


@settings(deadline=None, max_examples=60)
@given(position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("bits") / "ledger.jsonl")
    _written(ledger)
    data = bytearray(ledger.path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    ledger.path.write_bytes(data)
    assert ledger.read().faults


def test_a_line_torn_by_a_crash_is_a_fault_and_the_chain_goes_on(ledger: Ledger) -> None:
    _written(ledger)
    with ledger.path.open("a") as file:
        file.write('{"number":5,"at":"2026')
    after = ledger.append({"what": "e"}, NOW)
    chain = ledger.read()
    assert after.number == 5
    assert chain.faults == ("line 5 is damaged or was changed",)
    assert [entry.said["what"] for entry in chain.entries] == list("abcde")


def test_an_entry_longer_than_what_is_read_at_once_is_followed(ledger: Ledger) -> None:
    ledger.append({"what": "x" * 200_000}, NOW)
    ledger.append({"what": "y"}, NOW)
    assert ledger.read().faults == ()


def test_processes_that_append_at_once_make_one_chain(ledger: Ledger) -> None:
    program = textwrap.dedent(
        f"""
        from datetime import datetime, timezone
        from pathlib import Path
        from mlflow_carbon.evidence.ledger import Ledger
        ledger = Ledger(Path({str(ledger.path)!r}))
        for number in range(50):
            ledger.append({{"what": number}}, datetime.now(timezone.utc))
        """
    )
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    chain = ledger.read()
    assert (len(chain.entries), chain.faults) == (200, ())


def test_a_full_disk_is_told_and_leaves_the_ledger_sound(ledger: Ledger) -> None:
    """The file size limit of a process stands in for the disk: the kernel refuses the write alike."""
    _written(ledger)
    before = ledger.path.read_bytes()
    program = textwrap.dedent(
        f"""
        import resource, signal
        from datetime import datetime, timezone
        from pathlib import Path
        from mlflow_carbon.errors import OutputError
        from mlflow_carbon.evidence.ledger import Ledger
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 40}, resource.RLIM_INFINITY))
        try:
            Ledger(Path({str(ledger.path)!r})).append({{"what": "e"}}, datetime.now(timezone.utc))
        except OutputError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "the ledger cannot be written" in done.stdout
    assert ledger.path.read_bytes() == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_ledger_in_an_impossible_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append({"what": "a"}, NOW)
    with pytest.raises(StoreError, match="cannot be read"):
        Ledger(tmp_path).read()
