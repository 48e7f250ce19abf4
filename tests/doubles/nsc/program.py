"""`nsc` as far as `headrace nats accounts` uses it, by the source of nsc v2.

A script of the shell runs with a stand-in for the program, which notes down what it is told; then
`Nsc` does it. What nsc refuses is refused, too: options that it does not have, exports and imports
that overlap, an activation for another account. A server runs by `config`, in operator mode.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.nsc.claims import Keys, creds

_STANDS_IN = """#!/bin/sh
for each in "$@"; do printf '%s\\0' "$each"; done >> "$NSC_TOLD"
printf '\\n' >> "$NSC_TOLD"
case "$1 $2" in "describe account") printf '"<%s>"\\n' "$4";; esac
"""
"""A public key that is asked for is told as a name in brackets, which `Nsc` replaces."""
_UNLIMITED = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")


class Refused(Exception):
    """nsc would say no."""


@dataclass
class Account:
    name: str
    keys: Keys = field(default_factory=lambda: Keys("account"))
    exports: list[dict[str, Any]] = field(default_factory=list)
    imports: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, Any] = field(
        default_factory=lambda: {**dict.fromkeys(_UNLIMITED, -1), "wildcards": True}
    )
    users: dict[str, tuple[Keys, dict[str, Any]]] = field(default_factory=dict)


class Nsc:
    """One operator with its system account, as ``nsc add operator --sys`` leaves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._operator = Keys("operator")
        self.accounts = {"SYS": Account("SYS")}
        self.accounts["SYS"].exports += [
            _export("$SYS.REQ.ACCOUNT.*.*", "service", account_token_position=4),
            _export("$SYS.ACCOUNT.*.>", "stream", account_token_position=3),
        ]
        self._activations: dict[str, dict[str, Any]] = {}
        self._commands: dict[str, tuple[Callable[..., None], argparse.ArgumentParser]] = {
            "add account": (self._add_account, _options("--name")),
            "edit account": (
                self._edit_account,
                _options("--name", *(f"--js-{each}" for each in _STORAGE), "--leaf-conns"),
            ),
            "add export": (
                self._add_export,
                _options(
                    "--account",
                    "--name",
                    "--subject",
                    "--response-type",
                    flags=("service", "private"),
                ),
            ),
            "delete export": (self._delete_export, _options("--account", "--subject")),
            "generate activation": (
                self._activate,
                _options("--account", "--subject", "--target-account", "--output-file"),
            ),
            "add import": (self._add_import, _options("--account", "--token", "--local-subject")),
            "add user": (self._add_user, _user_options()),
            "generate creds": (self._creds, _options("--account", "--name", "--output-file")),
            "describe account": (lambda _: None, _options("--name", "--field")),
        }

    def run(self, script: str) -> None:
        """Run a script of the shell in the folder. Raises Refused."""
        told = self.folder / "told"
        program = self.folder / "bin" / "nsc"
        program.parent.mkdir(exist_ok=True)
        program.write_text(_STANDS_IN)
        program.chmod(0o700)
        told.write_bytes(b"")
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "NSC_TOLD": str(told)}
        subprocess.run(
            ["sh", "-eu"], input=script, text=True, cwd=self.folder, env=variables, check=True
        )
        for line in told.read_bytes().split(b"\0\n")[:-1]:
            self.do(line.decode().split("\0"))

    def do(self, command: list[str]) -> None:
        verb = " ".join(command[:2])
        if verb not in self._commands:
            raise Refused(verb)
        work, options = self._commands[verb]
        work(options.parse_args([self._resolved(each) for each in command[2:]]))

    def config(self, **more: Any) -> dict[str, Any]:
        """A server's configuration: operator, system account, and all accounts in its memory."""
        system = self.accounts["SYS"].keys.public
        operator = {"type": "operator", "system_account": system}
        return {
            "operator": self._operator.signed(self._operator.public, "test", operator),
            "system_account": system,
            "resolver": "MEMORY",
            "resolver_preload": {
                each.keys.public: self._operator.signed(each.keys.public, each.name, _claims(each))
                for each in self.accounts.values()
            },
            **more,
        }

    def _resolved(self, text: str) -> str:
        return re.sub(r"<(\w+)>", lambda found: self.accounts[found[1]].keys.public, text)

    def _add_account(self, given: argparse.Namespace) -> None:
        if given.name in self.accounts:
            raise Refused(f"the account {given.name} exists already")
        self.accounts[given.name] = Account(given.name)

    def _edit_account(self, given: argparse.Namespace) -> None:
        limits = self.accounts[given.name].limits
        for option, name in _STORAGE.items():
            value = getattr(given, f"js_{option.replace('-', '_')}")
            if value is not None:
                limits[name] = int(value)

    def _add_export(self, given: argparse.Namespace) -> None:
        kind = "service" if given.service else "stream"
        exports = self.accounts[given.account].exports
        for each in exports:
            if each["type"] == kind and _overlap(each["subject"], given.subject):
                raise Refused(f"{kind} export {each['subject']} already exports {given.subject}")
        made = _export(given.subject, kind, name=given.name or given.subject)
        if given.private:
            made["token_req"] = True
        if given.service:
            made["response_type"] = given.response_type or "Singleton"
        exports.append(made)

    def _delete_export(self, given: argparse.Namespace) -> None:
        exports = self.accounts[given.account].exports
        kept = [each for each in exports if each["subject"] != given.subject]
        if len(kept) == len(exports):
            raise Refused(f"no export {given.subject}")
        exports[:] = kept

    def _activate(self, given: argparse.Namespace) -> None:
        source, target = self.accounts[given.account], self.accounts[given.target_account]
        found = [e for e in source.exports if e.get("token_req") and e["subject"] == given.subject]
        if not found:
            raise Refused(f"{given.account} has no private export {given.subject}")
        claims = {"subject": given.subject, "kind": found[0]["type"], "type": "activation"}
        self._activations[given.output_file] = {
            "name": given.subject,
            "subject": given.subject,
            "type": found[0]["type"],
            "account": source.keys.public,
            "token": source.keys.signed(target.keys.public, given.subject, claims),
            "for": target.name,
        }

    def _add_import(self, given: argparse.Namespace) -> None:
        made = dict(self._activations[given.token])
        if made.pop("for") != given.account:
            raise Refused("the activation is not intended for this account")
        local = given.local_subject or (made["subject"] if made["type"] == "service" else "")
        if local:
            made["local_subject"] = local
        imports = self.accounts[given.account].imports
        for each in imports:
            if each["type"] != made["type"] or each["account"] != made["account"]:
                continue
            both = (each.get("local_subject", each["subject"]), local or made["subject"])
            if each["subject"] == made["subject"] or (
                made["type"] == "service" and _overlap(*both)
            ):
                raise Refused(f"{given.account}: {both[0]} and {both[1]} overlap")
        imports.append(made)

    def _add_user(self, given: argparse.Namespace) -> None:
        permissions: dict[str, Any] = {
            verb: {"allow": [part for each in told for part in each.split(",")]}
            for verb, told in (("pub", given.allow_pub), ("sub", given.allow_sub))
            if told
        }
        if given.allow_pub_response is not None:
            permissions["resp"] = {"max": given.allow_pub_response, "ttl": 0}
        users = self.accounts[given.account].users
        if given.name in users:
            raise Refused(f"the user {given.name} exists already")
        users[given.name] = Keys("user"), permissions

    def _creds(self, given: argparse.Namespace) -> None:
        account = self.accounts[given.account]
        keys, permissions = account.users[given.name]
        limits = dict.fromkeys(("subs", "data", "payload"), -1)
        claims = account.keys.signed(
            keys.public, given.name, {**permissions, **limits, "type": "user"}
        )
        path = self.folder / given.output_file
        path.write_text(creds(claims, keys.seed))
        path.chmod(0o600)


_STORAGE = {
    "mem-storage": "mem_storage",
    "disk-storage": "disk_storage",
    "streams": "streams",
    "consumer": "consumer",
}


def _options(*names: str, flags: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    """Options of a command by their long names; no other is known."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(name)
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    return parser


def _user_options() -> argparse.ArgumentParser:
    parser = _options("--account", "--name")
    parser.add_argument("--allow-pub", action="append", default=[])
    parser.add_argument("--allow-sub", action="append", default=[])
    parser.add_argument("--allow-pub-response", type=int, nargs="?", const=1)
    return parser


def _export(subject: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": subject, "subject": subject, "type": kind, **more}


def _claims(account: Account) -> dict[str, Any]:
    return {
        "type": "account",
        "exports": account.exports,
        "imports": account.imports,
        "limits": account.limits,
        "default_permissions": {"pub": {}, "sub": {}},
    }


def _overlap(one: str, other: str) -> bool:
    return _contains(one, other) or _contains(other, one)


def _contains(pattern: str, subject: str) -> bool:
    """Whether each subject of one pattern is one of the other's."""
    wide, narrow = pattern.split("."), subject.split(".")
    for at, token in enumerate(wide):
        if token == ">":
            return len(narrow) > at
        if at >= len(narrow) or narrow[at] == ">":
            return False
        if token not in ("*", narrow[at]):
            return False
    return len(wide) == len(narrow)
