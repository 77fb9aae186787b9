"""A signed PDF: still archivable and accessible, and its signature holds what it says."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from asn1crypto import x509 as asn1_x509
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko.sign.validation.status import PdfSignatureStatus
from pyhanko_certvalidator import ValidationContext

from mlflow_carbon.cli.main import cli
from mlflow_carbon.errors import OutputError
from mlflow_carbon.report.pades import signer
from tests.report.verapdf import failures

NOW = datetime.now(timezone.utc)


def _certificate(days: int) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate that signs itself, valid for so many days from yesterday on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Model risk, Example Bank")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(True, True, False, False, False, True, False, False, False), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return key, made


def _file(folder: Path, days: int = 30) -> tuple[Path, x509.Certificate]:
    key, certificate = _certificate(days)
    path = folder / "key.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"report", key, certificate, None, BestAvailableEncryption(b"correct horse")
        )
    )
    (folder / "password").write_text("correct horse\n")
    return path, certificate


def _status(pdf: Path, trusted: x509.Certificate) -> PdfSignatureStatus:
    root = asn1_x509.Certificate.load(trusted.public_bytes(Encoding.DER))
    with pdf.open("rb") as file:
        (signature,) = PdfFileReader(file).embedded_signatures
        return asyncio.run(
            async_validate_pdf_signature(signature, ValidationContext(trust_roots=[root]))
        )


@pytest.fixture(scope="module")
def signed(
    written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, x509.Certificate]:
    folder = tmp_path_factory.mktemp("signed")
    key, certificate = _file(folder)
    arguments = [
        "report", str(written["json"]), "--format", "pdf", "--out", str(folder), "--sign-pdf", str(key),
        "--pdf-password", str(folder / "password"),
    ]  # fmt: skip
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "correct horse" not in done.output
    return folder / "report.pdf", certificate


def test_the_signature_is_valid_and_covers_the_whole_file(
    signed: tuple[Path, x509.Certificate],
) -> None:
    status = _status(*signed)
    assert status.bottom_line
    assert status.intact
    assert status.trusted
    assert status.coverage.name == "ENTIRE_FILE"


@pytest.mark.parametrize("flavour", ["3a", "ua1"])
def test_a_signed_pdf_conforms_as_the_unsigned_one_does(
    signed: tuple[Path, x509.Certificate], flavour: str
) -> None:
    assert failures(signed[0], flavour) == []


def test_the_signature_is_put_behind_the_file_as_it_was_rendered(
    signed: tuple[Path, x509.Certificate], written: dict[str, Path]
) -> None:
    assert signed[0].read_bytes().startswith(written["pdf"].read_bytes())


def test_one_changed_byte_breaks_the_signature(
    signed: tuple[Path, x509.Certificate], tmp_path: Path
) -> None:
    pdf, certificate = signed
    content = bytearray(pdf.read_bytes())
    place = content.index(b"/Title") + 9
    content[place] ^= 1
    (tmp_path / "changed.pdf").write_bytes(content)
    assert not _status(tmp_path / "changed.pdf", certificate).intact


def test_what_cannot_sign_is_refused_before_the_work(tmp_path: Path) -> None:
    key, _ = _file(tmp_path)
    (tmp_path / "wrong").write_text("battery staple")
    with pytest.raises(OutputError, match=r"password is not the right one") as refused:
        signer(key, tmp_path / "wrong", NOW)
    assert "battery" not in str(refused.value)
    with pytest.raises(OutputError, match="password is not the right one"):
        signer(tmp_path / "password", None, NOW)
    with pytest.raises(OutputError, match=r"absent\.p12: cannot be read"):
        signer(tmp_path / "absent.p12", None, NOW)
    old, _ = _file(tmp_path, days=-2)
    with pytest.raises(OutputError, match=r"valid from .* only"):
        signer(old, tmp_path / "password", NOW)
