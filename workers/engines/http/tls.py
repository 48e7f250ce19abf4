"""What a fault of TLS means at an engine or a provider, and what to do about it. Pure. Of the
broker's, `schemas.tls` says it, as other things help there."""

from __future__ import annotations

import ssl

from schemas import tls

_TRUST = (
    "Have this machine trust it, or name a file with it, or with the CA that signed it, in the "
    "environment as SSL_CERT_FILE"
)
_UNKNOWN = "is of a CA that is not trusted here ({said})", _TRUST
_OTHER = "is for other names ({said})", "Name it in the url by a name that it is for"
_WRONG = {
    tls.NOT_YET: ("is not valid yet", "Is this machine's clock right?"),
    tls.EXPIRED: ("has expired", "Renew it there, if this machine's clock is right"),
    **dict.fromkeys(tls.UNKNOWN, _UNKNOWN),
    tls.SELF_SIGNED: ("is self-signed, and not trusted here", _TRUST),
    **dict.fromkeys(tls.NAME, _OTHER),
}
"""By OpenSSL's number: what is wrong with a certificate, and what to do."""


def explained(fault: ssl.SSLError) -> tuple[str, str]:
    """What is wrong with the certificate, as the end of a sentence that begins with it; and what to
    do. The first is "" if it is not about a certificate."""
    if not isinstance(fault, ssl.SSLCertVerificationError):
        why = tls.said(fault).replace("_", " ").lower()
        return "", f"TLS failed ({why}): is it https:// there, and not http://?"
    said = fault.verify_message.rstrip(".")
    why, hint = _WRONG.get(fault.verify_code, ("is not good ({said})", "See what it lacks there"))
    return why.format(said=said), hint


def reason(fault: ssl.SSLError, host: str) -> tuple[str, str]:
    """Why there is no TLS with `host`, which is ``name:port``, and what to do."""
    wrong, hint = explained(fault)
    return (f"the certificate of {host} {wrong}", hint) if wrong else (f"no TLS at {host}", hint)
