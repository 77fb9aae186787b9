"""The fallback for servers that cannot be extended. MLflow's own code sends the messages here."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import (
    Webhook,
    WebhookAction,
    WebhookEntity,
    WebhookEvent,
    WebhookStatus,
)
from mlflow.webhooks.delivery import (
    _generate_hmac_signature,
    _get_or_create_webhook_session,
    _send_webhook_request,
)

from mlflow_carbon.evidence.ledger import Ledger
from mlflow_carbon.gate.receiver import Receiver, looker
from mlflow_carbon.gate.webhook import Doorkeeper, Event, RefusedError
from mlflow_carbon.policy.load import load_pack
from tests.gate import policy_files
from tests.gate.conftest import Api, Server, seed

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
SECRET = "a secret that nobody guesses"
SET = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)


def body(action: str = "created") -> bytes:
    data = {"name": "credit", "alias": "champion", "version": "1"}
    message = {"entity": "model_version_alias", "action": action, "data": data}
    return json.dumps(message).encode()


def headers(
    content: bytes, *, delivery: str = "d-1", at: datetime = NOW, secret: str = SECRET
) -> dict[str, str]:
    sent = str(int(at.timestamp()))
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": sent,
        "x-mlflow-signature": _generate_hmac_signature(secret, delivery, sent, content.decode()),
    }


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def doorkeeper(clock: Clock) -> Doorkeeper:
    return Doorkeeper(SECRET, clock)


def refusal(doorkeeper: Doorkeeper, given: dict[str, str], content: bytes) -> int:
    with pytest.raises(RefusedError) as caught:
        doorkeeper.admit(given, content)
    return caught.value.status


def test_a_signed_message_is_taken_once(doorkeeper: Doorkeeper) -> None:
    assert doorkeeper.admit(headers(body()), body()) == Event("d-1", "credit", "champion", "1")
    assert refusal(doorkeeper, headers(body()), body()) == 409


def test_what_could_not_be_dealt_with_may_come_again(doorkeeper: Doorkeeper) -> None:
    event = doorkeeper.admit(headers(body()), body())
    assert event is not None
    doorkeeper.forget(event)
    assert doorkeeper.admit(headers(body()), body()) == event


def test_a_message_that_is_not_signed_with_the_secret_is_refused(doorkeeper: Doorkeeper) -> None:
    sound = headers(body())
    assert refusal(doorkeeper, headers(body(), secret="another"), body()) == 401
    assert refusal(doorkeeper, {}, body()) == 401
    assert refusal(doorkeeper, sound, body().replace(b"credit", b"others")) == 401
    for name, value in (
        ("x-mlflow-delivery-id", "d-2"),
        ("x-mlflow-timestamp", str(int(NOW.timestamp()) + 1)),
        ("x-mlflow-signature", sound["x-mlflow-signature"].replace("v1,", "v2,")),
        ("x-mlflow-signature", "v1,not base64"),
    ):
        assert refusal(doorkeeper, sound | {name: value}, body()) == 401


def test_an_old_or_future_message_is_refused(doorkeeper: Doorkeeper, clock: Clock) -> None:
    sound = headers(body())
    clock.now = NOW + timedelta(minutes=6)
    assert refusal(doorkeeper, sound, body()) == 409
    later = headers(body(), at=clock.now + timedelta(minutes=6))
    assert refusal(doorkeeper, later, body()) == 409


def test_a_message_from_before_a_restart_is_refused(clock: Clock) -> None:
    sound = headers(body())
    Doorkeeper(SECRET, clock).admit(sound, body())
    clock.now = NOW + timedelta(seconds=2)
    assert refusal(Doorkeeper(SECRET, clock), sound, body()) == 409


def test_other_events_are_none_of_ours(doorkeeper: Doorkeeper) -> None:
    content = body("deleted")
    assert doorkeeper.admit(headers(content), content) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 50_000])
def test_a_signed_message_that_is_not_mlflows_is_refused(
    doorkeeper: Doorkeeper, content: bytes
) -> None:
    assert refusal(doorkeeper, headers(content), content) == 400


@pytest.fixture
def client(open_store: Callable[[], str]) -> MlflowClient:
    uri = open_store()
    return MlflowClient(uri, uri)


@contextmanager
def receiving(client: MlflowClient, folder: Path) -> Iterator[Receiver]:
    """The receiver on a port of its own; its policy and its ledger are in the folder."""
    pack = load_pack(str(policy_files.write(folder)))
    look = looker(pack, client, Ledger(folder / "ledger.jsonl"))
    keeper = Doorkeeper(SECRET, lambda: datetime.now(timezone.utc))
    server = Receiver(("127.0.0.1", 0), keeper, look)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Receiver]:
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    with receiving(client, tmp_path) as running:
        yield running


def send(receiver: Receiver, name: str, alias: str, version: str) -> tuple[int, str]:
    """MLflow's own sender."""
    url = f"http://127.0.0.1:{receiver.server_port}/"
    webhook = Webhook("w-1", "gate", url, [SET], 0, 0, status=WebhookStatus.ACTIVE, secret=SECRET)
    payload = {"name": name, "alias": alias, "version": version}
    answer = _send_webhook_request(webhook, payload, SET, _get_or_create_webhook_session())
    return answer.status_code, answer.text


def test_an_alias_set_on_a_version_that_fails_goes_back(
    client: MlflowClient, receiver: Receiver, tmp_path: Path
) -> None:
    seed(client, "credit")
    seed(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "2")
    status, words = send(receiver, "credit", "champion", "2")
    assert (status, words) == (200, "credit: alias champion moved back to version 1.\n")
    assert client.get_registered_model("credit").aliases == {"champion": 1}
    (entry,) = Ledger(tmp_path / "ledger.jsonl").read().entries
    assert (entry.said["outcome"], entry.said["version"]) == ("rolled back", "1")


def test_an_alias_with_nothing_to_go_back_to_is_removed(
    client: MlflowClient, receiver: Receiver
) -> None:
    seed(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "1")
    assert send(receiver, "credit", "champion", "1")[0] == 200
    assert client.get_registered_model("credit").aliases == {}


def test_the_registry_counts_and_not_the_message(client: MlflowClient, receiver: Receiver) -> None:
    seed(client, "credit")
    seed(client, "credit", passes=False)
    client.set_registered_model_alias("credit", "champion", "1")
    assert send(receiver, "credit", "champion", "2") == (200, "credit version 1 stands\n")
    assert send(receiver, "credit", "candidate", "2") == (200, "not protected\n")


def test_a_server_without_a_gate_tells_of_an_alias_and_the_alias_goes_back(
    server: Server, tmp_path: Path
) -> None:
    """MLflow's own delivery: the server stores the secret, signs the message and sends it by itself."""
    server.policy.write_text(policy_files.REVIEWED.replace("[champion,", "[another,"))
    client = server.client()
    for passes in (True, False):
        seed(client, "delivered", passes=passes)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    try:
        with receiving(client, tmp_path) as running:
            url = f"http://127.0.0.1:{running.server_port}/"
            webhook = client.create_webhook("gate", url, [SET], secret=SECRET)
            client.set_registered_model_alias("delivered", "champion", "2")
            deadline = time.monotonic() + 60
            while not ledger.read().entries:
                assert time.monotonic() < deadline, server.log.read_text()
                time.sleep(0.05)
            client.delete_webhook(webhook.webhook_id)
    finally:
        server.policy.write_text(policy_files.REVIEWED)
    assert Api(server.url).aliases("delivered") == {"champion": "1"}
    (entry,) = ledger.read().entries
    assert entry.said["violations"] == ["REV-001 no_evidence"]


def test_a_registry_that_does_not_answer_is_asked_again_later(receiver: Receiver) -> None:
    content = body().replace(b"credit", b"unknown-model")
    given = headers(content, at=datetime.now(timezone.utc))
    assert [send_raw(receiver, content, given)[0] for _ in range(2)] == [503, 503]


def test_a_captured_message_sent_again_is_refused_and_takes_nothing_back(
    client: MlflowClient, receiver: Receiver
) -> None:
    seed(client, "credit")
    client.set_registered_model_alias("credit", "champion", "1")
    given = headers(body(), at=datetime.now(timezone.utc))
    assert send_raw(receiver, body(), given) == (200, "credit version 1 stands\n")
    client.set_model_version_tag("credit", "1", "review", "failed")  # what a look would act on
    assert send_raw(receiver, body(), given) == (409, "this delivery was taken before\n")
    renamed = given | {"x-mlflow-delivery-id": "d-2"}
    assert send_raw(receiver, body(), renamed) == (401, "the signature is not the secret's\n")
    old = headers(body(), delivery="d-3", at=datetime.now(timezone.utc) - timedelta(minutes=6))
    assert send_raw(receiver, body(), old) == (409, "the message is not from now\n")
    assert client.get_registered_model("credit").aliases == {"champion": 1}


def send_raw(receiver: Receiver, content: bytes, given: dict[str, str]) -> tuple[int, str]:
    """As anybody can send it who saw it pass."""
    url = f"http://127.0.0.1:{receiver.server_port}/"
    request = urllib.request.Request(url, content, given)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_a_long_message_is_not_read(receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/"
    request = urllib.request.Request(url, b"x", {"Content-Length": "100000"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value:
        assert caught.value.code == 413
