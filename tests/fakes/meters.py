"""Meters that do as they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mlflow_carbon.energy.meter import Component, Gap, MeterInfo, Method, Reading
from mlflow_carbon.units import Range


class SteadyMeter:
    """Exactly ``power_w`` since it was made."""

    def __init__(
        self,
        power_w: float,
        *,
        name: str = "fake:steady",
        may_block: bool = False,
        takes_s: float = 0.0,
    ) -> None:
        self.power_w = power_w
        self.takes_s = takes_s
        self.began_ns = time.monotonic_ns()
        self.closed = False
        self.readings = 0
        self.info = MeterInfo(
            id=name,
            component=Component.GPU if may_block else Component.CPU,
            method=Method.COUNTER,
            describe=name,
            period_s=10.0,
            may_block=may_block,
        )

    def read(self) -> Reading | Gap:
        self.readings += 1
        time.sleep(self.takes_s)
        now_ns = time.monotonic_ns()
        return Reading(now_ns, Range.exactly(self.power_w * (now_ns - self.began_ns) / 1e9))

    def close(self) -> None:
        self.closed = True


class HangingMeter(SteadyMeter):
    """Answers until ``hang`` is set, then not before ``release`` is."""

    def __init__(self, power_w: float = 100.0) -> None:
        super().__init__(power_w, name="driver:hanging", may_block=True)
        self.hang, self.release, self.inside = (threading.Event() for _ in range(3))

    def read(self) -> Reading | Gap:
        if self.hang.is_set():
            self.inside.set()
            self.release.wait()
        return super().read()


class ScriptedMeter(SteadyMeter):
    """Returns what ``answer`` returns."""

    def __init__(self, answer: Callable[[], Reading | Gap]) -> None:
        super().__init__(0.0, name="fake:scripted")
        self._answer = answer

    def read(self) -> Reading | Gap:
        return self._answer()


class ToldShare:
    """The share that ``answer`` returns."""

    def __init__(self, answer: Callable[[], Range]) -> None:
        self._answer = answer

    def since_last(self, now_ns: int) -> Range:
        del now_ns
        return self._answer()
