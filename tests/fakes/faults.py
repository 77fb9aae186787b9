"""Runs on a host where everything goes wrong: two GPUs and a processor whose drivers fail at random."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow_carbon.energy.attribution import Attributed, CpuShare
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.energy.nvml import Nvml
from mlflow_carbon.energy.rapl import RaplZone, find_zones
from tests.fakes.gpus import Gpu, Rig, nvidia_gpu
from tests.fakes.powercap import Powercap
from tests.fakes.simulate import Window, simulate

AT_ONCE = 100
_GARBAGE = ["", "garbage", "-5", "99999999999999999999", "0", "\x00\x00"]
_FAULTS = ("denied", "lost", "reset", "jump", "stuck", "nopower")


class ThisProcess:
    """A process tree of one, which costs nothing to ask."""

    def cpu_s(self) -> float:
        return time.process_time()

    def memory_bytes(self) -> tuple[float, float]:
        return 0.0, 0.0

    def members(self) -> frozenset[int]:
        return frozenset({os.getpid()})


def is_sound(account: RunEnergy) -> bool:
    """Ordered, finite, covered between 0 and 1, and what has no figure has a reason."""
    return all(
        0 <= part.attributed_j.low <= part.attributed_j.high < float("inf")
        and part.attributed_j.high > 0
        and 0 <= part.coverage <= 1
        for part in account.components
    ) and all(missing.reason for missing in account.unmeasured)


def faulty_runs(rig: Rig, nvml: Nvml, folder: Path, *, runs: int, seed: int) -> Iterator[RunEnergy]:
    """The accounts of so many runs, a hundred at a time, some nested in others."""
    chance = random.Random(seed)
    tree = Powercap(folder)
    path = tree.zone("intel-rapl:0", "package-0", lambda t: 120 * t, range_uj=5_000_000)
    (zone,) = find_zones(tree.folder)

    def set_time(t: float) -> None:
        rig.set(t)
        if chance.random() < 0.1:
            (path / "energy_uj").write_text(chance.choice(_GARBAGE))
        else:
            tree.write(t)

    for _ in range(runs // AT_ONCE):
        gpus = [Gpu(uuid=f"GPU-{n}", counter=chance.random() < 0.6) for n in range(2)]
        faults = [
            f"fault {chance.randrange(2)} {kind} {at_s} {at_s + chance.uniform(0, 2)} 9e5"
            for kind in _FAULTS
            for at_s in (chance.uniform(1, 3),)
        ]
        rig.play(gpus, *faults)
        set_time(0.5)
        tree.write(0.5)
        gauges = [nvidia_gpu(nvml, gpu.uuid, rig.clock) for gpu in gpus]
        package = RaplZone(zone, clock=rig.clock)
        meters = [*gauges, Attributed(package, CpuShare(ThisProcess()))]
        windows = {}
        for n in range(AT_ONCE):
            start_s = chance.uniform(1, 2)
            parent = str(chance.randrange(n)) if n and chance.random() < 0.3 else None
            windows[str(n)] = Window(start_s, start_s + 10 ** chance.uniform(-2.5, -0.3), parent)
        accounts = simulate(meters, windows, set_time)
        package.close()
        yield from accounts.values()
