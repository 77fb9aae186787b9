"""A powercap tree as the kernel shows it, with counters that follow a known power exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

REAL_RANGE_UJ = 262_143_328_850


class Powercap:
    """Zones below ``root/sys/class/powercap``; ``write`` puts every counter where it is at ``t`` seconds."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sys/class/powercap"
        self.folder.mkdir(parents=True)
        self._zones: list[tuple[Path, Callable[[float], float], int]] = []

    def zone(
        self,
        place: str,
        name: str,
        energy_j: Callable[[float], float],
        range_uj: int = REAL_RANGE_UJ,
    ) -> Path:
        """Add ``intel-rapl:0`` or, inside it, ``intel-rapl:0/intel-rapl:0:0``."""
        path = self.folder / place
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self._zones.append((path, energy_j, range_uj))
        self._put(path, energy_j, range_uj, 0.0)
        return path

    def write(self, t: float) -> None:
        for path, energy_j, range_uj in self._zones:
            self._put(path, energy_j, range_uj, t)

    @staticmethod
    def _put(path: Path, energy_j: Callable[[float], float], range_uj: int, t: float) -> None:
        # Written in place and in one call, so that a reader never sees half a number.
        text = f"{int(energy_j(t) * 1e6) % range_uj:020d}\n".encode()
        mode = "r+b" if (path / "energy_uj").exists() else "wb"
        with (path / "energy_uj").open(mode, buffering=0) as file:
            file.write(text)
