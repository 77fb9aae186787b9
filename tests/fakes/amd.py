"""The rig's AMD GPUs: builds ``amdsmi.c`` for the real ``amdsmi`` package."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
from pathlib import Path


class AmdRig:
    """The library in this process, on a clock of its own."""

    def __init__(self, folder: Path) -> None:
        """Build it below ``folder``, which is a ROCM_PATH then."""
        path = folder / "lib/libamd_smi.so"
        path.parent.mkdir(parents=True)
        source = Path(__file__).with_name("amdsmi.c")
        stubs = folder / "stubs.c"
        stubs.write_text(_stubs(source.read_text()))
        flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, "-o", path, source, stubs], check=True)
        self._library = ctypes.CDLL(str(path))
        self._library.amd_rig_set.argtypes = [ctypes.c_uint32, *[ctypes.c_double] * 3]
        self._library.amd_rig_time.argtypes = [ctypes.c_int64]
        self.now_ns = 0

    def play(self, *gpus: tuple[float, float, float]) -> None:
        """GPUs as (watts drawn, share of them that the counter counts, watts told)."""
        self._library.amd_rig_clear()
        for number, gpu in enumerate(gpus):
            self._library.amd_rig_set(number, *gpu)
        self.set(0.0)

    def lose(self, lost: bool) -> None:
        self._library.amd_rig_gone(int(lost))

    def set(self, t: float) -> None:
        self.now_ns = round(t * 1e9)
        self._library.amd_rig_time(self.now_ns)

    def clock(self) -> int:
        return self.now_ns


def _stubs(ours: str) -> str:
    """Every function that the package looks up and that we have not written."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.origin is not None
    wrapper = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text()
    wanted = set(re.findall(r"_libraries\['libamd_smi.so'\]\.(\w+)", wrapper))
    missing = sorted(name for name in wanted if f"{name}(" not in ours)
    return "\n".join(f"int {name}(void);\nint {name}(void) {{ return 2; }}" for name in missing)
