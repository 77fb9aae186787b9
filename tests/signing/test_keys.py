"""Keys: made for their owner only, listed, replaced, withdrawn; never shown."""

from __future__ import annotations

import json
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlflow_carbon.cli.keys import command
from mlflow_carbon.cli.main import run
from mlflow_carbon.errors import CarbonError, DataError
from mlflow_carbon.settings import keys_folder, trusted_keys
from mlflow_carbon.signing import keys, trust
from mlflow_carbon.signing.trust import Use


def call(*words: str) -> Result:
    return CliRunner().invoke(command, [*words], catch_exceptions=True)


def generate(name: str = "ci", *uses: str) -> Result:
    chosen = [word for use in uses or ("audit",) for word in ("--use", use)]
    return call("generate", name, "--owner", "ana@example.org", *chosen)


def test_a_private_key_is_for_its_owner_only_and_never_printed() -> None:
    result = generate()
    path = keys_folder() / "ci.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().splitlines()[1]
    assert secret not in result.output
    assert secret not in trusted_keys().read_text()
    assert secret not in repr(keys.load(path))


def test_a_private_key_that_others_may_read_is_refused() -> None:
    generate()
    path = keys_folder() / "ci.pem"
    path.chmod(0o640)
    with pytest.raises(DataError, match="chmod 600"):
        keys.load(path)


def test_a_new_key_never_overwrites_another() -> None:
    generate()
    before = (keys_folder() / "ci.pem").read_bytes()
    assert "exists already" in str(generate().exception)
    assert (keys_folder() / "ci.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "x" * 65, "a b"])
def test_a_name_cannot_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(DataError):
        keys.path_of(Path("keys"), name)


def test_the_list_says_what_each_key_is_for_and_until_when() -> None:
    generate("ci", "audit", "witness")
    (entry,) = json.loads(call("list", "--json").output)
    assert entry["uses"] == ["audit", "witness"]
    assert entry["owner"] == "ana@example.org"
    assert entry["state"] == "valid"
    assert "1 key is trusted" in call("list").output


def test_rotation_ends_the_old_key_and_replaces_its_private_half() -> None:
    generate()
    old = keys.load(keys_folder() / "ci.pem").key_id
    assert call("rotate", "ci", "--days", "30").exit_code == 0
    new = keys.load(keys_folder() / "ci.pem").key_id
    now = datetime.now(timezone.utc) + timedelta(minutes=1)
    known = trust.load(trusted_keys())
    assert new != old
    assert "expired" in known.keys[old].why_not(Use.AUDIT, now)
    assert known.keys[new].why_not(Use.AUDIT, now) == ""
    assert stat.S_IMODE((keys_folder() / "ci.pem").stat().st_mode) == 0o600


def test_nobody_rotates_a_key_they_do_not_hold() -> None:
    generate()
    (keys_folder() / "ci.pem").unlink()
    before = trusted_keys().read_bytes()
    assert isinstance(call("rotate", "ci").exception, DataError)
    assert trusted_keys().read_bytes() == before


def test_a_revoked_key_says_why_and_stays_revoked_after_an_import(tmp_path: Path) -> None:
    generate()
    earlier = tmp_path / "earlier.yaml"
    earlier.write_bytes(trusted_keys().read_bytes())
    call("revoke", "ci", "--because", "laptop stolen")
    call("import", str(earlier))
    (key,) = trust.load(trusted_keys()).keys.values()
    assert "laptop stolen" in key.why_not(Use.AUDIT, datetime.now(timezone.utc))
    assert "was revoked" in str(call("rotate", "ci").exception)


def test_a_revocation_is_taken_over_from_another_list(tmp_path: Path) -> None:
    generate()
    valid = trusted_keys().read_bytes()
    call("revoke", "ci", "--because", "left the company")
    theirs = tmp_path / "theirs.yaml"
    theirs.write_bytes(trusted_keys().read_bytes())
    trusted_keys().write_bytes(valid)
    assert "1 key taken over" in call("import", str(theirs)).output
    (key,) = trust.load(trusted_keys()).keys.values()
    assert key.revoked_at is not None


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("id: ", "id: 0"),
        ("- audit", "- everything"),
        ("valid_until:", "valid_never:"),
        ("owner: ana@example.org", "owner: ' '"),
        ("keys:", "keys: !!python/object/apply:os.system [id]\nk:"),
    ],
)
def test_a_damaged_list_of_keys_is_refused_whole(change: str, to: str) -> None:
    generate()
    text = trusted_keys().read_text()
    assert change in text
    trusted_keys().write_text(text.replace(change, to, 1))
    with pytest.raises(CarbonError, match="no list of trusted keys"):
        trust.load(trusted_keys())


def test_an_absent_list_trusts_nobody() -> None:
    assert trust.load(trusted_keys()).keys == {}
    assert "No key is trusted" in call("list").output


def test_the_command_line_knows_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(command, ["rotate", "nobody"])
    assert ended.value.code == 2
    assert "no trusted key is called 'nobody'" in capsys.readouterr().err
