"""TLS towards the broker: whom to trust, and what a fault of it means, in words that say what to
do."""

from __future__ import annotations

import ssl

from schemas.settings import SettingsError

NOT_YET, EXPIRED, SELF_SIGNED = 9, 10, 18
UNKNOWN = frozenset({2, SELF_SIGNED, 19, 20, 21})
NAME = frozenset({62, 64})
"""OpenSSL's numbers of what is wrong with a certificate (x509_vfy.h)."""


def context(ca: str) -> ssl.SSLContext:
    """For clients. `ca`: the file of whom alone to trust; "": those whom the system trusts.
    Raises SettingsError."""
    try:
        made = ssl.create_default_context(cafile=ca or None)
    except FileNotFoundError:
        raise SettingsError(f"[nats] ca: {ca}: no such file") from None
    except OSError as fault:  # ssl.SSLError is one
        why = said(fault) if isinstance(fault, ssl.SSLError) else fault.strerror
        raise SettingsError(f"[nats] ca: {ca} has no certificate that can be read: {why}") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def reason(fault: ssl.SSLError, host: str) -> str:
    """Why there is no TLS with `host`, and what to do."""
    if not isinstance(fault, ssl.SSLCertVerificationError):
        return (
            f"no TLS with {host}: {said(fault)}. Is it the broker's port, and is nothing "
            "in between that ends TLS itself?"
        )
    its, code = f"the certificate of {host}", fault.verify_code
    if code == EXPIRED:
        return (
            f"{its} has expired, by this machine's clock: the broker of 'headrace up' makes itself "
            "a new one in time; renew one of your own"
        )
    if code == NOT_YET:
        return f"{its} is not yet valid, by this machine's clock: is the clock right?"
    if code in NAME:
        names = fault.verify_message.rstrip(".")
        return (
            f"{its} is for other names ({names}): name this one in [share] names at the hub, or in "
            "[nats] tls_name here whom it is for"
        )
    if code in UNKNOWN:
        return (
            f"{its} is of a CA that is not known here ({fault.verify_message}): name the file with "
            "that CA's certificate in [nats] ca"
        )
    return f"{its} is not good: {fault.verify_message}"


def said(fault: ssl.SSLError) -> str:
    """OpenSSL's word for it, which Python has of some."""
    return str(getattr(fault, "reason", None) or fault)
