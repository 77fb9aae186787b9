"""The runs this process works on: begun, kept and concluded as MLflow tells of them."""

from __future__ import annotations

import atexit
import importlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from mlflow_carbon import settings as settings_module
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.errors import OutputError
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking import spool as spools
from mlflow_carbon.tracking.desk import MS_PER_S, Desk
from mlflow_carbon.tracking.edge import harmless
from mlflow_carbon.tracking.facts import Exit, Facts, Origin
from mlflow_carbon.tracking.late import Late, deliver_left
from mlflow_carbon.tracking.meters import Meters
from mlflow_carbon.tracking.ranks import PARENT_RUN, is_launcher, place_of
from mlflow_carbon.tracking.session import NS_PER_S, Session
from mlflow_carbon.tracking.workers import Job, Sender

FINAL_WAIT_S = 5.0
"""How long the end of a run, or of the process, waits for MLflow; then the spool keeps the record."""

BACKDATED_S = 0.05
"""A start time further back than this was given on purpose: the run tells of work already done."""

ATTACHED_LEAST_S = 1.0
"""An attached run logged to for less than this was corrected or annotated, not worked on."""

RESUMED_TOLD_S = 5.0
"""A run that was taken up again says so this soon: what is recovered on another host is not to end it."""

ATTACHED_IDLE_S = 600.0
ATTACHED_MOST = 16
"""Attached runs are let go after so long without a log call, or when so many others came after them."""

FILES_MOST = 64
"""Spool files held open for runs that are open, and for records that wait: a process may have 256 files."""

_EXITS = {"FINISHED": Exit.FINISHED, "FAILED": Exit.FAILED, "KILLED": Exit.KILLED}


class Recorder:
    """All sessions of this process, the meters, and the threads. Its methods are called by the hooks."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before the first run."""
        self._settings = settings
        self._desk = Desk(settings)
        self._place = place_of(settings)
        self._meters = Meters(settings, after_reading=self._tick)
        self._sessions: dict[str, Session] = {}
        self._launched: set[str] = set()
        self._creating = threading.local()
        self._lock = threading.RLock()
        self._sender: Sender | None = None
        self._loaded = False
        self._late = Late()
        self._exit_registered = False
        itself = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forked(itself))

    def use(self, settings: Settings) -> None:
        """Settings for the runs that start from now on; the meters stay as they were opened."""
        self._settings, self._desk = settings, Desk(settings)
        self._place = place_of(settings)

    # What MLflow tells us.

    def creating(self, tags: Mapping[str, str]) -> None:
        """A run is about to be created here: what it uses until MLflow has done so is already its own."""
        if not is_launcher(tags):
            self._creating.since = None
            self._creating.since = (self._meters.expect(), _now())

    def created(
        self, run_id: str, client: Any, *, tags: Mapping[str, str], start_time_ms: int | None
    ) -> None:
        """A run was created here."""
        if is_launcher(tags):
            self._launched.add(run_id)
            return
        since, self._creating.since = getattr(self._creating, "since", None), None
        session = self._open(run_id, client, Origin.CREATED, tags.get(PARENT_RUN), since)
        if start_time_ms is not None:
            before_s = session.opened_at.timestamp() - start_time_ms / MS_PER_S
            session.unseen_s = before_s if before_s > BACKDATED_S else 0.0

    def resumed(self, run_id: str, client: Any) -> None:
        """A run is active here: new (then we know it), or taken up again."""
        if run_id in self._launched:
            return
        session = self._sessions.get(run_id)
        if session is None:
            self._open(run_id, client, Origin.RESUMED)
            return
        session.client = session.client or client
        if session.origin in (Origin.INHERITED, Origin.ATTACHED):
            session.origin = Origin.RESUMED

    def begin(self, inherited_run_id: str | None) -> None:
        """Start at once with the run a parent process handed down; it is dropped if never touched."""
        if inherited_run_id:
            with harmless("start measuring a run"):
                self._open(inherited_run_id, None, Origin.INHERITED)

    def touched(self, run_id: str, client: Any) -> None:
        """Something was logged to a run. Called at every log call: must cost next to nothing."""
        session = self._sessions.get(run_id)
        if session is None:
            if run_id in self._launched:
                return
            session = self._open(run_id, client, Origin.ATTACHED)
        elif session.client is None:
            session.client = client
        session.touched_ns = time.monotonic_ns()

    def nested(self, run_id: str, parent_id: str) -> None:
        """A run was tagged with its parent after it was created, as Optuna's storage does."""
        with self._lock:
            parent = self._sessions.get(parent_id)
        if parent is None:
            return
        if run_id in self._sessions:
            parent.parent = True
            self._meters.adopt(run_id, parent_id)
        else:
            parent.trouble(
                f"run {run_id} was nested in this one when it was not open here (any more): "
                "these figures do not contain its energy"
            )

    def inputs(self, run_id: str, client: Any, inputs: Iterable[Any]) -> None:
        """Datasets are about to be logged to a run."""
        from mlflow_carbon.tracking.inputs import card_folders, enrich

        items = list(inputs)
        if not items:
            return
        importlib.import_module(
            "mlflow_carbon.datasets.standard"
        )  # for the sender, as in ``_load``
        self.touched(run_id, client)
        session = self._sessions.get(run_id)
        used = session.datasets_used if session is not None else []
        records, troubles = enrich(items, self._settings, card_folders(self._settings), used)
        if session is None:
            return
        session.add_datasets(records)
        for trouble in troubles:
            session.trouble(trouble)

    def ending(self, run_id: str, client: Any, status: str) -> None:
        """A run is about to be ended: publish before it is."""
        with self._lock:
            session = self._sessions.pop(run_id, None)
        if session is None:
            return
        session.client = session.client or client
        job = self._finish(session, _EXITS.get(status, Exit.FINISHED), worked_only=False)
        self._wait([job])

    def shutdown(self) -> None:
        """Conclude every run still open, as the process ends or measuring is switched off."""
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        jobs = []
        for session in sessions:
            exit_ = Exit.EXCEPTION if session.died_of_an_exception() else Exit.PROCESS_EXIT
            jobs.append(self._finish(session, exit_, worked_only=session.origin is Origin.ATTACHED))
        self._wait(jobs)
        self._meters.shutdown()
        atexit.unregister(self._at_exit)

    def after_fork(self) -> None:
        """In a forked child: the runs are the parent's, and no thread of ours exists."""
        for session in self._sessions.values():
            session.after_fork()
        self._sessions = {}
        self._lock = threading.RLock()
        self._sender = None
        self._meters.after_fork()

    # What we do about it.

    def _open(
        self,
        run_id: str,
        client: Any,
        origin: Origin,
        parent_id: str | None = None,
        since: tuple[int, datetime] | None = None,
    ) -> Session:
        with self._lock:
            if run_id in self._sessions:
                return self._sessions[run_id]
            opened = since or (time.monotonic_ns(), _now())
            session = Session(run_id, client, origin, self._desk, opened=opened)
            session.place = self._place
            self._sessions[run_id] = session
            if parent_id in self._sessions:
                self._sessions[parent_id].parent = True
        if not self._loaded:
            self._loaded = True
            with harmless("load what writes records"):
                _load(self._settings)
        self._start_sender()
        with harmless("keep a spool file") as attempt:
            self._claim(session)
        session.trouble(attempt.failed)
        if session.leads:
            self._start_measuring(session, parent_id, since and since[0])
        return session

    def _claim(self, session: Session) -> None:
        if len(self._sessions) > FILES_MOST:
            raise OutputError(f"{FILES_MOST} other runs are open already")
        folder = spools.folder(settings_module.spool_dir(self._settings))
        try:
            session.spool = spools.claim(folder, session.run_id)
        except spools.BusyError:
            session.leads = False
            return
        self._late.expect(folder, time.monotonic())
        left, client = session.spool.left, session.client
        if left is not None and client is not None and self._settings.recover:
            # Before the sender reads what stands on the run: the new session is to build on it.
            self._submit(session, lambda: deliver_left(left, client, session.desk))

    def _start_measuring(
        self, session: Session, parent_id: str | None, since_ns: int | None
    ) -> None:
        with harmless("read the meters") as attempt:
            self._meters.open(session.run_id, parent_id, since_ns)
            session.hardware = self._meters.hardware
        session.trouble(attempt.failed)
        now_s = time.monotonic()
        period_s = self._settings.publish_period_s
        resumed = session.origin is Origin.RESUMED
        session.due_s = now_s + (min(RESUMED_TOLD_S, period_s) if resumed else period_s)
        with harmless("keep a spool file") as attempt:
            session.spool_facts(session.facts(None), now_s=now_s)
        session.trouble(attempt.failed)
        if session.origin is Origin.ATTACHED:
            self._let_go_of_others()

    def _start_sender(self) -> None:
        with self._lock:
            if self._sender is None:
                self._sender = Sender()
            if not self._exit_registered:
                # Last in, first out: this runs before MLflow ends the runs left open.
                atexit.register(self._at_exit)
                self._exit_registered = True

    def _at_exit(self) -> None:
        with harmless("conclude the runs left open"):
            self.shutdown()

    def _account(self, session: Session, *, last: bool) -> RunEnergy | None:
        energy: RunEnergy | None = None
        with harmless("read the meters") as attempt:
            energy = self._meters.account(session.run_id, last=last)
            session.hardware = self._meters.hardware
        session.trouble(attempt.failed)
        return energy

    def _finish(self, session: Session, exit_: Exit, *, worked_only: bool) -> Job | None:
        """Close the meters, keep the facts, and leave the rest to the sender."""
        if not session.leads:
            return None
        now_ns = time.monotonic_ns()
        energy = self._account(session, last=True)
        if worked_only:
            energy = session.only_worked(energy, now_ns)
        session.connect()
        if session.client is None or (worked_only and session.worked_s(now_ns) < ATTACHED_LEAST_S):
            session.discard()
            return None
        ended_at = _now().isoformat(timespec="milliseconds")
        facts = session.facts(energy, exit_, ended_at)
        with harmless("keep a spool file"):
            session.spool_facts(facts, now_s=now_ns / NS_PER_S)
            session.set_aside()
            if self._sender and self._sender.waiting >= FILES_MOST and session.spool:
                session.abandon()  # MLflow does not keep up: ``recover`` will deliver it
                return None
        return self._submit(session, lambda: self._conclude(session, facts))

    def _wait(self, jobs: list[Job | None]) -> None:
        if self._sender is None or self._sender.stuck(FINAL_WAIT_S):
            return
        until_s = time.monotonic() + FINAL_WAIT_S
        for job in jobs:
            if job is not None:
                job.wait(max(0.0, until_s - time.monotonic()))

    # On the sender's thread.

    def _conclude(self, session: Session, facts: Facts) -> None:
        from mlflow_carbon.tracking.sending import conclude

        try:
            conclude(session, facts)
        finally:
            session.abandon()

    def _push(self, session: Session) -> None:
        from mlflow_carbon.tracking.sending import publish

        session.push_waits = False
        energy = self._account(session, last=False)
        if energy is not None and self._sessions.get(session.run_id) is session:
            publish(session, energy)

    # On the sampler's thread, whenever the meters have been read.

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        for session in list(self._sessions.values()):
            if session.leads:
                with harmless("keep a spool file") as attempt:
                    self._keep(session, now_ns)
                session.trouble(attempt.failed)
                self._deliver_late(session, now_ns / NS_PER_S)

    def _deliver_late(self, session: Session, now_s: float) -> None:
        """Now and then have the sender deliver what dead processes left for the store of this session."""
        client = session.client
        if client is not None and self._settings.recover and self._late.is_due(now_s):
            self._submit(session, lambda: self._late.deliver(client, session.desk, now=_now()))

    def _submit(self, session: Session, work: Callable[[], None]) -> Job | None:
        if self._sender is None:
            return None
        return self._sender.submit(lambda: session.context.run(work))

    def _keep(self, session: Session, now_ns: int) -> None:
        now_s = now_ns / NS_PER_S
        if session.origin is Origin.ATTACHED and session.idle_s(now_ns) > ATTACHED_IDLE_S:
            self._let_go(session)
            return
        if session.spool is None and now_s < session.due_s:
            return
        if not session.keep(self._meters, now_ns):
            return
        if now_s >= session.due_s:
            session.due_s = now_s + self._settings.publish_period_s
            self._send(session)

    def _send(self, session: Session) -> None:
        """Have the figures so far published, unless that is waiting to be done already."""
        session.connect()
        if session.client is None or session.push_waits or session.origin is Origin.ATTACHED:
            return
        session.push_waits = True
        self._submit(session, lambda: self._push(session))

    def _let_go_of_others(self) -> None:
        attached = [s for s in self._sessions.values() if s.origin is Origin.ATTACHED and s.leads]
        if len(attached) > ATTACHED_MOST:
            now_ns = time.monotonic_ns()
            self._let_go(max(attached[:-1], key=lambda s: s.idle_s(now_ns)))

    def _let_go(self, session: Session) -> None:
        if self._sessions.pop(session.run_id, None) is not None:
            self._finish(session, Exit.PROCESS_EXIT, worked_only=True)


def _load(settings: Settings) -> None:
    """Load what our threads will need; they themselves must not import anything.

    Python calls MLflow's import hook with its import lock held, and MLflow imports with the lock of that hook
    held. So an import on a thread beside the user's can keep both waiting for good.
    """
    needed = ["tracking.sending", "tracking.recovery"]
    needed += ["carbon.live"] if settings.live_intensity is not None else []
    needed += ["signing.keys", "signing.statement"] if settings.signing_key else []
    for name in needed:
        importlib.import_module(f"mlflow_carbon.{name}")


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _forked(itself: weakref.ref[Recorder]) -> None:
    recorder = itself()
    if recorder is not None:
        with harmless("forget the parent's runs after a fork"):
            recorder.after_fork()
