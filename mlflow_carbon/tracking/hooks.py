"""The places in MLflow where runs start, log and end, wrapped on their classes.

Class attributes are looked up at each call, so clients made earlier and early
``from mlflow import start_run`` are covered. The user's call always happens,
with its own arguments, result and exceptions; ours come before or after it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlflow_carbon import settings as settings_module
from mlflow_carbon.energy.cost import counted
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking.edge import harmless, outermost
from mlflow_carbon.tracking.ranks import PARENT_RUN
from mlflow_carbon.tracking.recorder import Recorder

ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})

_log = logging.getLogger("mlflow_carbon")

_originals: list[tuple[type, str, Any]] = []
_recorder: Recorder | None = None


def _ours(what: str, react: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    with harmless(what), outermost() as first:
        if first:
            with counted():
                react(*args, **kwargs)


def _wrap(
    cls: type,
    name: str,
    what: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
) -> None:
    original = cls.__dict__[name]

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            _ours(what, before, *args, **kwargs)
        result = original(*args, **kwargs)
        if after is not None:
            _ours(what, after, result, *args, **kwargs)
        return result

    _originals.append((cls, name, original))
    setattr(cls, name, wrapper)


class _Reactions:
    """What we do at each hook; the signatures are MLflow's (2.14 to 3.x), ``result`` first when after it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def creating(
        self,
        client: Any,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, str] | None = None,
        run_name: str | None = None,
    ) -> None:
        del client, experiment_id, start_time, run_name
        self._recorder.creating(tags or {})

    def created(
        self,
        run: Any,
        client: Any,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, str] | None = None,
        run_name: str | None = None,
    ) -> None:
        del experiment_id, run_name
        self._recorder.created(
            run.info.run_id, client, tags=tags or {}, start_time_ms=start_time and int(start_time)
        )

    def terminating(
        self, client: Any, run_id: str, status: str | None = None, end_time: int | None = None
    ) -> None:
        del end_time
        self._recorder.ending(run_id, client, status or "FINISHED")

    def updating(
        self, client: Any, run_id: str, status: str | None = None, name: str | None = None
    ) -> None:
        del name
        if status in ENDED:
            self._recorder.ending(run_id, client, str(status))

    def updated(
        self,
        result: Any,
        client: Any,
        run_id: str,
        status: str | None = None,
        name: str | None = None,
    ) -> None:
        del result, name
        if status == "RUNNING":
            self._recorder.resumed(run_id, client)

    def activated(self, result: Any, active_run: Any, *_: Any, **__: Any) -> None:
        del result
        from mlflow.tracking.client import MlflowClient

        self._recorder.resumed(active_run.info.run_id, MlflowClient()._tracking_client)

    def logged(self, result: Any, client: Any, run_id: str, *_: Any, **__: Any) -> None:
        del result
        self._recorder.touched(run_id, client)

    def batched(
        self,
        result: Any,
        client: Any,
        run_id: str,
        metrics: Any = (),
        params: Any = (),
        tags: Any = (),
        *_: Any,
        **__: Any,
    ) -> None:
        del metrics, params
        for tag in tags:
            if tag.key == PARENT_RUN:
                self._recorder.nested(run_id, tag.value)
        self.logged(result, client, run_id)

    def tagged(
        self, result: Any, client: Any, run_id: str, key: str, value: Any, *_: Any, **__: Any
    ) -> None:
        del result, client
        if key == PARENT_RUN:
            self._recorder.nested(run_id, str(value))

    def logging_inputs(
        self, client: Any, run_id: str, datasets: Any = None, *_: Any, **__: Any
    ) -> None:
        self._recorder.inputs(run_id, client, datasets or [])


def _remember(entity: Any, dataset: Any) -> None:
    from mlflow_carbon.tracking.inputs import remember

    remember(entity, dataset)


def install(overrides: dict[str, Any] | None = None, *, run_id: str | None = None) -> bool:
    """Wrap MLflow's classes and start watching; False if measuring is switched off. Idempotent.

    ``run_id``: a run to join at once; default: the one handed down in MLFLOW_RUN_ID, if any.

    Raises:
        SettingsError: a setting cannot be used.
    """
    global _recorder  # noqa: PLW0603 (one recorder per process, as there is one MLflow)
    if _recorder is not None and not overrides:
        return True
    found: Settings = replace(settings_module.load(), **(overrides or {}))
    if not found.enabled:
        return False
    if _recorder is not None:
        _recorder.use(found)
        return True
    from mlflow.data.dataset import Dataset
    from mlflow.tracking._tracking_service.client import TrackingServiceClient as Client
    from mlflow.tracking.fluent import ActiveRun

    for variable, hint in settings_module.unknown_variables().items():
        _log.warning("mlflow-carbon: %s sets nothing. %s", variable, hint or "Unset it.")
    _recorder = Recorder(found)
    on = _Reactions(_recorder)
    _wrap(Client, "create_run", "start measuring a run", before=on.creating, after=on.created)
    _wrap(Client, "set_terminated", "finish measuring a run", before=on.terminating)
    _wrap(Client, "update_run", "follow a change of status", before=on.updating, after=on.updated)
    _wrap(Client, "log_inputs", "describe a dataset", before=on.logging_inputs)
    _wrap(Client, "log_batch", "notice a log call", after=on.batched)
    _wrap(Client, "set_tag", "notice a nested run", after=on.tagged)
    for name in ("log_metric", "log_param"):
        _wrap(Client, name, "notice a log call", after=on.logged)
    _wrap(ActiveRun, "__init__", "start measuring a run", after=on.activated)
    _wrap(Dataset, "_to_mlflow_entity", "remember a dataset", after=_remember)
    _recorder.begin(run_id or settings_module.inherited_run_id())
    return True


def uninstall() -> None:
    """Put MLflow's classes back and publish what was measured of the runs still open."""
    global _recorder  # noqa: PLW0603 (see install)
    while _originals:
        cls, name, original = _originals.pop()
        setattr(cls, name, original)
    if _recorder is not None:
        _recorder.shutdown()
        _recorder = None
