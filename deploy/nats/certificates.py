"""The certificates of a broker that other machines reach: a private CA, made once for each store,
and the server's own, made anew before it ends and when its names change.

================== ============================================================================
``ca.pem``         the CA's certificate: what other machines trust, good for ten years
``ca.key``         its key (0600), which never leaves the store
``server.pem``     the server's certificate, good for a year, and the CA's after it
``server.key``     its key (0600)
================== ============================================================================

Elliptic curves (P-256) throughout: a whole handshake is small, and every TLS library takes them.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.nats.credentials import write_private
from deploy.nats.errors import StoreUnusable

CA, CA_KEY = "ca.pem", "ca.key"
SERVER, SERVER_KEY = "server.pem", "server.key"

DAY = dt.timedelta(days=1)
CA_LIFE = 3653 * DAY
LIFE = 365 * DAY
RENEW = 60 * DAY
"""A server's certificate that ends sooner is made anew when the broker starts."""
_BEFORE = 2 * DAY
"""By so much a certificate begins earlier than now: clocks differ, and who joins with a wrong one
is told so in words that say by how much."""


SOON = 30 * DAY
"""For so long before a certificate ends, it is said."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What somebody may want to know of one. `fingerprint`: the SHA-256 of all of it; `names`:
    hosts and addresses that it is for; `of_ca`: it may sign others."""

    subject: str
    names: tuple[str, ...]
    begins: dt.datetime
    ends: dt.datetime
    fingerprint: bytes
    of_ca: bool

    def left(self) -> dt.timedelta:
        return self.ends - dt.datetime.now(dt.UTC)

    def fault(self) -> str:
        """That it has ended, soon will, or has not begun; "" if all is well."""
        left = self.left()
        if self.begins > dt.datetime.now(dt.UTC):
            return f"is not valid before {self.begins:%Y-%m-%d %H:%M} UTC: is the clock right?"
        if left < dt.timedelta():
            return f"ended on {self.ends:%Y-%m-%d %H:%M} UTC"
        return f"ends on {self.ends:%Y-%m-%d}, in {left // DAY} days" if left < SOON else ""


def obtain(store: Path, names: Iterable[str]) -> None:
    """Have CA and server's certificate in `store`, the latter for `names` (hosts and addresses).
    Raises StoreUnusable for files that cannot be read."""
    wanted = frozenset(names)
    ca = _ca(store)
    file = store / SERVER
    if file.exists() and (store / SERVER_KEY).exists():
        there, *chain = read(file)
        if (
            wanted <= frozenset(there.names)
            and there.left() > RENEW
            and [each.fingerprint for each in chain] == [ca[0].fingerprint(hashes.SHA256())]
        ):
            return
    _sign(store, wanted, *ca)


def read(file: Path) -> list[Certificate]:
    """All certificates of a PEM file, in their order. Raises StoreUnusable."""
    return [described(each) for each in _load(file)]


def pem(ders: Iterable[bytes]) -> str:
    """These certificates, as a file has them."""
    found = (x509.load_der_x509_certificate(der) for der in ders)
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in found)


def of_der(der: bytes) -> Certificate:
    """Raises ValueError."""
    return described(x509.load_der_x509_certificate(der))


def described(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        subject=certificate.subject.rfc4514_string(),
        names=_names(certificate),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()),
        of_ca=_of_ca(certificate),
    )


def _load(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as fault:
        raise StoreUnusable(f"{file}: {fault.strerror}") from None
    except ValueError:
        raise StoreUnusable(f"{file} holds no certificate in PEM") from None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = found.get_values_for_type(x509.DNSName)
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*hosts, *map(str, addresses))


def _of_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _ca(store: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    file, key_file = store / CA, store / CA_KEY
    if not file.exists() or not key_file.exists():
        return _make_ca(store)
    certificate = _load(file)[0]
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except OSError as fault:
        raise StoreUnusable(f"{key_file}: {fault.strerror}") from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StoreUnusable(
            f"{key_file} is damaged: put it back from a backup, or delete it, and a new CA is made "
            "that every joined node has to be told of, by joining again"
        )
    return certificate, key


def _make_ca(store: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # The number tells CAs of several hubs apart, where people read their names.
    number = x509.random_serial_number()
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Headrace CA {number & 0xFFFFFFFF:08x}")]
    )
    made = (
        _builder(name, name, key.public_key(), number, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(store / CA_KEY, _key_text(key))
    write_private(store / CA, _text(made))
    return made, key


def _sign(
    store: Path,
    names: frozenset[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Headrace broker")])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    # It is not to outlive its CA, or nobody would see what ends first.
    life = min(LIFE, ca.not_valid_after_utc - dt.datetime.now(dt.UTC))
    made = (
        _builder(subject, ca.subject, key.public_key(), x509.random_serial_number(), life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write_private(store / SERVER_KEY, _key_text(key))
    write_private(store / SERVER, _text(made) + _text(ca))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    number: int,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(number)
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + life)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in sorted(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
