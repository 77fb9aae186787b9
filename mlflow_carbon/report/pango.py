"""Whether PDFs can be made here: WeasyPrint needs the system library Pango."""

from __future__ import annotations

import ctypes.util
import platform
from collections.abc import Mapping
from pathlib import Path

# WeasyPrint can do without the last, but then the same report has other bytes every second.
_LIBRARIES = (
    "gobject-2.0",
    "fontconfig",
    "harfbuzz",
    "pango-1.0",
    "pangoft2-1.0",
    "harfbuzz-subset",
)

# Package names as WeasyPrint's installation page gives them.
_COMMANDS = (
    (
        ("debian", "ubuntu"),
        "apt-get install --yes libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0",
    ),
    (("fedora", "rhel", "centos", "suse"), "dnf install pango"),
    (("arch",), "pacman -S pango"),
    (("alpine",), "apk add pango"),
)


def pango_problem() -> str | None:
    """``None`` when PDFs can be made; else what is missing and the one command for this system."""
    missing = [library for library in _LIBRARIES if not _loads(library)]
    if not missing:
        return None
    return (
        f"PDF reports need Pango, and {', '.join(missing)} cannot be loaded on this system. "
        f"Install it with: {install_command(platform.system(), _os_release())}"
    )


def _loads(library: str) -> bool:
    """Whether the loader opens it by the names WeasyPrint tries; a file that is there may be broken."""
    names = (f"lib{library}.so.0", f"lib{library}.so.1", f"lib{library}.0.dylib")
    # ``find_library`` starts processes, so it is asked last.
    return any(map(_opens, names)) or _opens(ctypes.util.find_library(library))


def _opens(file: str | None) -> bool:
    try:
        return file is not None and ctypes.CDLL(file) is not None
    except OSError:
        return False


def install_command(system: str, release: Mapping[str, str]) -> str:
    """The command that installs Pango; ``release`` holds the fields of /etc/os-release."""
    if system == "Darwin":
        return "brew install pango"
    if system == "Windows":
        return "pacman -S mingw-w64-x86_64-pango (in MSYS2; see WeasyPrint's installation page)"
    kin = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    for names, command in _COMMANDS:
        if any(name in kin for name in names):
            return command
    return "your package manager; the package is called pango"


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}
