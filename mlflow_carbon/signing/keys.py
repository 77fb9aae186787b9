"""Private ed25519 keys in files that only their owner can read. Nothing here prints or logs one."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from mlflow_carbon.errors import DataError, OutputError

EXTENSION = ".pem"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that has been read. Neither its text form nor its ``repr`` shows it."""

    key_id: str
    public: str
    """The 32 bytes of the public key in base64."""
    signer: CryptoSigner = field(repr=False)


def path_of(folder: Path, name: str) -> Path:
    """Where the private key of that name lies.

    Raises:
        DataError: the name could lead out of the folder, or is not fit for a file.
    """
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name[:80]!r} cannot name a key. Use letters, digits, '.', '_' and '-', for example release-audit."
        )
    return folder / f"{name}{EXTENSION}"


def create(path: Path, *, replace: bool = False) -> SigningKey:
    """Make a new key pair; the private half goes to ``path``, for its owner only (mode 0600).

    Raises:
        OutputError: there is a key already and ``replace`` is not set, or it cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and not replace:
            raise OutputError(
                f"{path} exists already and was left alone. Choose another name, or replace it with "
                "`mlflow-carbon keys rotate`."
            )
        # mkstemp gives mode 0600 from the first moment on.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(f"{path}: the key cannot be written ({error.strerror}).") from None
    return _signing_key(key)


def load(path: Path) -> SigningKey:
    """The private key in a file.

    Raises:
        DataError: there is none, others may read it, or it is no ed25519 key.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise DataError(
                    f"{path}: others than its owner may read this private key (mode {mode:04o}). "
                    f"Run `chmod 600 {path}`, and replace the key if somebody may have copied it."
                )
            pem = file.read(_MAX_BYTES)
    except OSError as error:
        raise DataError(
            f"{path}: the private key cannot be read ({error.strerror}). "
            "Make one with `mlflow-carbon keys generate NAME --owner WHO --use WHAT`."
        ) from None
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):  # TypeError: it is protected by a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise DataError(f"{path}: is no ed25519 private key in PEM form without a password.")
    return _signing_key(key)


def public_key(key_id: str, public: str) -> SSlibKey:
    """The key that checks signatures, from the base64 of its 32 bytes.

    Raises:
        ValueError: it is not that, or has another id.
    """
    raw = base64.b64decode(public, validate=True)
    if len(raw) != 32:
        raise ValueError("an ed25519 public key has 32 bytes")
    key = SSlibKey(key_id, "ed25519", "ed25519", {"public": raw.hex()})
    if _key_id(raw) != key_id:
        raise ValueError("the id does not belong to the public key")
    return key


def _signing_key(key: Ed25519PrivateKey) -> SigningKey:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = _key_id(raw)
    public = SSlibKey(key_id, "ed25519", "ed25519", {"public": raw.hex()})
    return SigningKey(key_id, base64.b64encode(raw).decode(), CryptoSigner(key, public))


def _key_id(raw: bytes) -> str:
    """SHA-256 of the public key's bytes, 64 hex digits."""
    return hashlib.sha256(raw).hexdigest()
