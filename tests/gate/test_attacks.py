"""Ways around the gate that somebody will try, over real HTTP against a server that enforces."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlflow_carbon.cli.audit import command as audit_command
from mlflow_carbon.cli.gate import command
from mlflow_carbon.evidence.attestation import to_text
from mlflow_carbon.evidence.ledger import Ledger
from mlflow_carbon.evidence.model import Attestation
from mlflow_carbon.gate.people import APPROVED, OVERRIDE, statement_of
from mlflow_carbon.schema import RegistryTag
from tests.gate.conftest import Api, Server


@pytest.fixture
def api(server: Server) -> Api:
    return Api(server.url)


def statement(
    name: str, by: str, *, kind: str = "", days: float = 1.0, about: tuple[str, str] = ("", "1")
) -> tuple[str, str]:
    """Key and value of a statement's tag."""
    now = datetime.now(timezone.utc)
    called = statement_of(kind, by) if kind else "use-reviewed"
    made = Attestation(called, by, "reviewer", now, now + timedelta(days=days), "Looked at it.")
    return RegistryTag.ATTESTATION_PREFIX + called, to_text(made, about[0] or name, about[1])


@pytest.mark.parametrize(
    "alias",
    [
        "CHAMPION",
        "cHaMpIoN",
        "champion\n",
        "Prod-eu",
        "\N{CYRILLIC SMALL LETTER ES}hampion",
        "\N{FULLWIDTH LATIN SMALL LETTER C}hampion",
        "champ\N{LATIN SMALL LETTER DOTLESS I}on",
    ],
)
def test_no_spelling_leads_around_an_alias(api: Api, alias: str) -> None:
    api.seed("spelling", passes=False)
    assert api.promote("spelling", alias=alias)[0] == 403
    assert api.aliases("spelling") == {}


@pytest.mark.parametrize(
    "alias", [" champion", "champion ", "\t", " ", "\N{NO-BREAK SPACE}champion"]
)
def test_aliases_with_spaces_set_nothing(api: Api, alias: str) -> None:
    api.seed("spaces", passes=False)
    assert api.promote("spaces", alias=alias)[0] in (400, 403)
    assert api.aliases("spaces") == {}


@pytest.mark.parametrize("version", [" 1", "01", "1 ", "+1", "\N{FULLWIDTH DIGIT ONE}"])
def test_no_spelling_of_the_version_leads_around_its_evidence(api: Api, version: str) -> None:
    api.seed("numbers", passes=False)
    assert api.promote("numbers", version)[0] in (400, 403, 404)
    assert api.aliases("numbers") == {}


@pytest.mark.parametrize("stage", ["PRODUCTION", "pRoDuCtIoN", "Production"])
def test_no_spelling_leads_around_a_stage(api: Api, stage: str) -> None:
    api.seed("stages", passes=False)
    body = {"name": "stages", "version": "1", "stage": stage, "archive_existing_versions": True}
    assert api.call("POST", "model-versions/transition-stage", body)[0] == 403


def test_a_model_called_a_prompt_stays_a_model(api: Api) -> None:
    api.seed("disguised", passes=False)
    prompt = {"name": "disguised", "key": "mlflow.prompt.is_prompt", "value": "true"}
    api.post("registered-models/set-tag", prompt)
    api.tag("disguised", "1", "mlflow.prompt.is_prompt", "true")
    assert api.promote("disguised")[0] == 403


def test_a_deleted_training_run_is_no_evidence(api: Api) -> None:
    seeded = api.seed("deleted-run")
    api.post("runs/delete", {"run_id": seeded.run_id})
    status, message = api.promote("deleted-run")
    assert (status, "REV-002" in message) == (403, True)


def test_a_borrowed_run_is_no_evidence(api: Api) -> None:
    good, bad = api.seed("lender"), api.seed("borrower", passes=False)
    body = {"name": "borrower", "source": f"runs:/{bad.run_id}/model", "run_id": good.run_id}
    status, answer = api.call("POST", "model-versions/create", body)
    if status == 200:
        version = answer["model_version"]["version"]
        api.tag("borrower", version, "review", "passed")
        status, _ = api.promote("borrower", version)
    assert status in (400, 403)


def test_files_from_elsewhere_do_not_borrow_a_runs_evidence(api: Api) -> None:
    good = api.seed("elsewhere")
    body = {"name": "elsewhere", "source": "s3://bucket/evil", "run_id": good.run_id}
    version = api.post("model-versions/create", body)["model_version"]["version"]
    api.tag("elsewhere", version, "review", "passed")
    status, message = api.promote("elsewhere", version)
    assert (status, "GATE-SOURCE" in message) == (403, True)


def test_a_file_replaced_by_the_artifact_route_after_the_approval_is_found_and_the_alias_goes_back(
    server: Server, api: Api, tmp_path: Path
) -> None:
    """MLflow takes the new file; what the gate can do is notice, and go back to what was approved."""

    def gate(*words: str) -> Result:
        return CliRunner().invoke(command, [*words, "--store", server.url])

    policy = ("--policy", str(server.policy))
    for version in ("1", "2"):
        run_id = api.seed("replaced").run_id
        api.put_file(run_id, "model/MLmodel", b"flavors: {}")
        api.put_file(run_id, "model/weights.bin", b"good")
        person = ("--by", "bob", "--role", "reviewer", "--reason", "Looked at it.")
        approved = gate("approve", f"models:/replaced/{version}", *person)
        assert "with 2 files" in approved.output, approved
        assert api.promote("replaced", version) == (200, "")
    standing = json.loads(gate("status", *policy, "--json").stdout)
    assert ("replaced", "2", True) in {(o["model"], o["version"], o["stands"]) for o in standing}
    api.put_file(run_id, "model/weights.bin", b"evil")
    after = gate("status", *policy, "--json")
    (found,) = (one for one in json.loads(after.stdout) if one["model"] == "replaced")
    assert (after.exit_code, found["files"]) == (1, "changed")
    (violation,) = found["violations"]
    assert (violation["rule"], violation["severity"]) == ("GATE-FILES", "critical")
    assert "weights.bin was changed" in violation["message"]
    audit = ("--policy", "integrity", "--model", "replaced", "--format", "json", "--out")
    audited = CliRunner().invoke(
        audit_command, ["--store", server.url, *audit, str(tmp_path / "audit")]
    )
    assert audited.exit_code == 1, audited
    report = json.loads((tmp_path / "audit" / "report.json").read_text())
    states = {
        one["subject"]["key"]: (one["state"], one["severity"])
        for one in report["findings"]
        if one["rule"] == "INT-006"
    }
    assert states == {"replaced/1": ("pass", "critical"), "replaced/2": ("fail", "critical")}
    ledger = tmp_path / "ledger.jsonl"
    watched = gate("watch", "--rollback", *policy, "--ledger", str(ledger))
    assert "alias champion moved back to version 1" in watched.output
    assert api.aliases("replaced") == {"champion": "1"}
    entries = [one.said for one in Ledger(ledger).read().entries if one.said["model"] == "replaced"]
    assert [one["outcome"] for one in entries] == ["rolled back"]


def test_a_name_freed_by_a_rename_does_not_bring_evidence_along(api: Api) -> None:
    """A renamed model takes its tags; statements about the old name are none about the new one."""
    api.seed("before")
    key, value = statement("before", "ana")
    api.tag("before", "1", key, value)
    api.post("registered-models/rename", {"name": "before", "new_name": "after"})
    assert json.loads(dict_of(api.version("after"))[key])["model"] == "before"
    api.seed("before", passes=False)
    assert api.promote("before")[0] == 403
    assert api.promote("after")[0] == 200  # its review went with it, as the same version


def dict_of(version: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in version.get("tags", [])}


def test_a_copy_brings_no_alias_and_no_evidence_tags(api: Api) -> None:
    seeded = api.seed("original")
    api.promote("original")
    key, value = statement("original", "ana")
    tags = [{"key": key, "value": value}, {"key": "review", "value": "passed"}]
    api.call("POST", "registered-models/create", {"name": "copy"})
    body = {"name": "copy", "source": "models:/original/1", "run_id": seeded.run_id, "tags": tags}
    api.post("model-versions/create", body)
    assert api.aliases("copy") == {}
    assert dict_of(api.version("copy")) == {"review": "passed"}


def test_two_hundred_promotions_at_once_leave_none_that_came_after_the_evidence_changed(
    gunicorn_server: Server,
) -> None:
    """Two server processes. Every alias that is set after the moment the evidence went bad is a hole."""
    api = Api(gunicorn_server.url)
    api.seed("race")
    aliases = [f"prod-{number}" for number in range(200)]
    halfway = threading.Semaphore(0)

    def promote(alias: str) -> int:
        status, _ = api.promote("race", alias=alias)
        halfway.release()
        return status

    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(promote, alias) for alias in aliases]
        for _ in range(60):
            halfway.acquire()
        api.tag("race", "1", "review", "failed")
        when_it_went_bad = set(api.aliases("race"))
        statuses = [one.result() for one in waiting]
    standing = set(api.aliases("race"))
    assert standing <= when_it_went_bad
    assert standing == {alias for alias, code in zip(aliases, statuses, strict=True) if code == 200}
    assert set(statuses) == {200, 403}
    chain = gunicorn_server.ledger.read()
    assert chain.faults == ()
    entered = [one.said for one in chain.entries if one.said.get("model") == "race"]
    kept = sum(one["outcome"] == "allowed" for one in entered) - sum(
        one["outcome"] == "withdrawn" for one in entered
    )
    assert kept == len(standing)


class TestUnderAuthentication:
    """Users are ana (a data scientist), bob and zoe (approvers), aud (auditor), ciso (may override)."""

    @pytest.fixture
    def people(self, auth_server: Server) -> dict[str, Api]:
        return {name: Api(auth_server.url, name) for name in ("ana", "bob", "aud", "ciso", "admin")}

    def set_tag(self, api: Api, name: str, key: str, value: str) -> tuple[int, str]:
        body = {"name": name, "version": "1", "key": key, "value": value}
        status, answer = api.call("POST", "model-versions/set-tag", body)
        return status, str(answer.get("message", ""))

    def test_without_a_password_nothing_is_asked(self, auth_server: Server) -> None:
        assert Api(auth_server.url).promote("any")[0] == 401

    def test_evidence_is_not_forged_by_its_beneficiary_nor_by_the_admin(
        self, people: dict[str, Api]
    ) -> None:
        people["ana"].seed("forged", passes=False)
        for who in ("ana", "admin", "bob"):
            key, value = statement("forged", who)
            status, message = self.set_tag(people[who], "forged", key, value)
            assert (status, "It is evidence" in message) == (403, True)
        key, value = statement("forged", "aud")
        assert self.set_tag(people["aud"], "forged", key, value)[0] == 200
        for who in ("ana", "admin"):
            body = {"name": "forged", "version": "1", "key": key}
            assert people[who].call("DELETE", "model-versions/delete-tag", body)[0] == 403

    def test_nobody_approves_in_another_name_or_for_another_version(
        self, people: dict[str, Api]
    ) -> None:
        people["ana"].seed("names")
        wrong = [
            ("ana", statement("names", "bob", kind=APPROVED)),
            ("bob", statement("names", "zoe", kind=APPROVED)),
            ("ana", statement("names", "ana", kind=APPROVED)),
            ("bob", statement("names", "bob", kind=APPROVED, about=("names", "2"))),
            ("bob", statement("names", "bob", kind=APPROVED, about=("other", "1"))),
        ]
        for who, (key, value) in wrong:
            assert self.set_tag(people[who], "names", key, value)[0] == 403
        assert (
            self.set_tag(people["bob"], "names", *statement("names", "bob", kind=APPROVED))[0]
            == 200
        )

    def test_an_override_by_the_named_role_opens_the_gate_and_is_entered_with_its_reason(
        self, people: dict[str, Api], auth_server: Server
    ) -> None:
        people["ana"].seed("urgent", passes=False)
        assert people["ana"].promote("urgent")[0] == 403
        for who in ("ana", "bob", "admin"):
            key, value = statement("urgent", who, kind=OVERRIDE)
            assert self.set_tag(people[who], "urgent", key, value)[0] == 403
        key, value = statement("urgent", "ciso", kind=OVERRIDE, days=2)
        assert self.set_tag(people["ciso"], "urgent", key, value)[0] == 200
        assert people["ana"].promote("urgent") == (200, "")
        last = auth_server.ledger.read().entries[-1].said
        assert (last["outcome"], last["by"], last["identity"]) == ("overridden", "ana", "proven")
        assert (last["override"]["by"], last["override"]["reason"]) == ("ciso", "Looked at it.")
        assert last["violations"] == ["REV-001 no_evidence"]

    def test_an_override_that_ran_out_or_runs_too_long_opens_nothing(
        self, people: dict[str, Api]
    ) -> None:
        people["ana"].seed("late", passes=False)
        for days in (-0.5, 30.0):
            key, value = statement("late", "ciso", kind=OVERRIDE, days=days)
            assert self.set_tag(people["ciso"], "late", key, value)[0] == 200
            assert people["ana"].promote("late")[0] == 403

    def test_a_withdrawn_override_is_not_put_back_by_somebody_else(
        self, people: dict[str, Api]
    ) -> None:
        people["ana"].seed("replay", passes=False)
        key, value = statement("replay", "ciso", kind=OVERRIDE)
        assert self.set_tag(people["ciso"], "replay", key, value)[0] == 200
        body = {"name": "replay", "version": "1", "key": key}
        assert people["ana"].call("DELETE", "model-versions/delete-tag", body)[0] == 403
        assert people["ciso"].call("DELETE", "model-versions/delete-tag", body)[0] == 200
        assert self.set_tag(people["ana"], "replay", key, value)[0] == 403
        assert people["ana"].promote("replay")[0] == 403

    def test_the_server_writes_down_who_registered_a_version(self, people: dict[str, Api]) -> None:
        key = "mlflow_carbon.registered_by"
        people["ana"].seed("author")
        assert dict_of(people["ana"].version("author"))[key] == "ana"
        for who in ("ana", "aud", "admin"):
            assert self.set_tag(people[who], "author", key, "bob")[0] == 403
        body = {"name": "author", "source": "s3://bucket/x", "tags": [{"key": key, "value": "bob"}]}
        people["ana"].post("model-versions/create", body)
        assert dict_of(people["ana"].version("author", "2"))[key] == "ana"
