"""Accounts, logins and what crosses, for a NATS that is not ours: as a part of a server's
configuration, and as commands of `nsc` for its operator mode. Pure; both are made from `rights`.

Such a NATS has no hub: nobody is invited there, and each login is made by whoever runs it.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import replace

from deploy.nats.config import configured, exported, imported
from deploy.nats.rights import CROSSINGS, LOGINS, STREAMED, Account, Crossing, Grant, role_user
from schemas import subjects

CREDS = "headrace-creds"
"""The directory in which `nsc` leaves the logins."""
_BYTES = 24
_TOKEN = f"{CREDS}/activation.jwt"
_ENDS = next(each for each in CROSSINGS if each.subject == subjects.DISCONNECTS)
_KEY = "@"
"""Stands for the public key of an account, until the shell knows it."""
_STORAGE = ("mem-storage", "disk-storage", "streams", "consumer")


def variable(role: str) -> str:
    """The variable that a server's configuration takes a login's password from. Headrace itself
    has none of this name: it would say that it does not know one."""
    return f"NATS_PASSWORD_{role.upper()}"


def passwords() -> str:
    """New passwords as lines for the environment of a server. It takes one for text only if it
    begins with a letter."""
    found = logins(own_system=True)
    return "".join(f"{variable(role)}=p{secrets.token_hex(_BYTES)}\n" for role in found)


def accounts(*, own_system: bool) -> list[Account]:
    """`own_system`: the system account is made with the others."""
    left_out = (Account.JOIN,) if own_system else (Account.JOIN, Account.SYS)
    return [each for each in Account if each not in left_out]


def logins(*, own_system: bool) -> dict[str, tuple[Account, Grant | None]]:
    known = accounts(own_system=own_system)
    return {role: found for role, found in LOGINS.items() if found[0] in known}


def crossings(known: Sequence[Account]) -> list[Crossing]:
    """What crosses between these accounts."""
    found = (replace(each, to=tuple(to for to in each.to if to in known)) for each in CROSSINGS)
    return [each for each in found if each.owner in known and each.to]


def config(system: str = "") -> str:
    """The accounts as a part of a server's configuration. Passwords come from the environment: a
    server does not start without them. `system`: the name of the system account, if there is one
    already."""
    known, roles = accounts(own_system=not system), logins(own_system=not system)
    users = [role_user(role, role, f"${variable(role)}") for role in roles]
    made = configured(known, users, crossings(known))
    if system:
        for each in _ENDS.to:
            made[each]["imports"].append(imported(_ENDS, system))
    text = json.dumps(made, indent=1)
    for role in roles:
        # Only without quotes is it the name of a variable.
        text = text.replace(f'"${variable(role)}"', f"${variable(role)}")
    lines = [f"# Passwords, from the environment: {' '.join(map(variable, roles))}"]
    if system:
        told = json.dumps(exported(_ENDS))
        lines.append("# To be included among the others, within accounts { }.")
        lines.append(f"# The account {system} has to tell of workers that died: exports: [{told}]")
        return "\n".join([*lines, text[1:-1].strip("\n"), ""])
    return "\n".join([*lines, f"system_account: {Account.SYS}", f"accounts: {text}", ""])


def commands(system: str = "") -> str:
    """A script of `nsc` commands. With the name of the `system` account, that account tells of
    connections that ended, for which it must belong to the same operator."""
    known = accounts(own_system=False)
    lines = ["set -eu", "umask 077", f"mkdir -p {CREDS}", ""]
    for account in known:
        lines.append(_nsc("add account", name=account))
        if account in STREAMED:
            limits = {f"js-{each}": "-1" for each in _STORAGE}
            lines.append(_nsc("edit account", name=account, **limits))
    lines += ["", "# What crosses, each by a word of the account that offers it."]
    for crossing in crossings(known):
        lines.append(_export(crossing))
        for to in crossing.to:
            lines += _import(crossing.owner, to, crossing.subject)
    lines += ["", "# Logins."]
    for role, (account, grant) in logins(own_system=False).items():
        lines.append(_user(role, account, grant))
        out = f"{CREDS}/{role}.creds"
        lines.append(_nsc("generate creds", account=account, name=role, output_file=out))
    if system:
        lines += ["", *_disconnects(system)]
    lines += ["", f"rm -f {_TOKEN}", "# Then: nsc push --all"]
    return "\n".join(lines) + "\n"


def _export(crossing: Crossing) -> str:
    service = crossing.kind == "service"
    answers = {"response-type": "Stream"} if crossing.many else {}
    flags = ("service", "private") if service else ("private",)
    return _nsc("add export", *flags, account=crossing.owner, subject=crossing.subject, **answers)


def _import(owner: str, to: str, subject: str, **local: str) -> list[str]:
    return [
        _nsc(
            "generate activation",
            account=owner,
            target_account=to,
            subject=subject,
            output_file=_TOKEN,
        ),
        _nsc("add import", account=to, token=_TOKEN, **local),
    ]


def _user(role: str, account: Account, grant: Grant | None) -> str:
    if grant is None:
        return _nsc("add user", account=account, name=role)
    allowed = {"allow-pub": ",".join(grant.publish), "allow-sub": ",".join(grant.subscribe)}
    return _nsc("add user", "allow-pub-response", account=account, name=role, **allowed)


def _disconnects(system: str) -> list[str]:
    """The server names accounts by their keys there. It offers each account its own events, which
    has to make room for what others are to hear of `MEMBERS`."""
    subject = subjects.DISCONNECTS.replace(Account.MEMBERS, _KEY)
    lines = [
        "# The end of each worker's connection is told at once. Without this, it is noticed by",
        "# its silence, after some seconds.",
        f"key=$(nsc describe account --name {Account.MEMBERS} --field sub | tr -d '\"')",
        _nsc("delete export", account=system, subject="$SYS.ACCOUNT.*.>"),
        _nsc("add export", "private", account=system, subject=subject),
    ]
    for to in _ENDS.to:
        lines += _import(system, to, subject, local_subject=subjects.DISCONNECTS)
    return [line.replace(_KEY, "'\"$key\"'") for line in lines]


def _nsc(verb: str, *flags: str, **options: str) -> str:
    told = [
        part
        for name, value in options.items()
        for part in (f"--{name.replace('_', '-')}", shlex.quote(value))
    ]
    return " ".join(["nsc", verb, *told, *(f"--{flag}" for flag in flags)])
