"""What a machine keeps of the fabric that it joined: `<data>/joined/<role>/`, mode 0700.

================== ============================================================================
``node.json``      who it is there, and where the broker is; written last, so that it is whole
``seed``           the seed of its key (0600), which never leaves it
``second.seed``    that of its connection to the account with the keys, or with the credits
``ca.pem``         the CA that the broker's certificate is of, if not every machine trusts it
================== ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from deploy.nats.credentials import write_private
from schemas import nkeys, registry
from schemas.nkeys import KeyPair
from schemas.settings import SettingsError

FOLDER = "joined"
FILE = "node.json"
SEED, SECOND_SEED = "seed", "second.seed"
CA = "ca.pem"
SECOND = {registry.INGRESS: "vault", registry.FALLBACK: "ledger"}
"""The section of settings that says a role's second login."""

_NONE = {"url": "", "user": "", "password": "", "creds": ""}
"""No other login counts, whatever file and environment say."""


@dataclass(frozen=True, slots=True)
class Node:
    """`url`: of the broker, several with commas; `invite`: by which it joined; `private`: the
    broker's CA is the one in `ca.pem`."""

    name: str
    role: str
    url: str
    invite: str
    private: bool


def folder(data: Path, role: str) -> Path:
    return data / FOLDER / role


def find(data: Path, role: str) -> Node | None:
    """Who this machine is as `role`, if it joined. Raises SettingsError."""
    path = folder(data, role) / FILE
    try:
        found = Node(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except (ValueError, TypeError):
        raise SettingsError(f"{path} is damaged: delete it, and join again") from None
    return found


def any_of(data: Path) -> Node | None:
    """Who this machine is, as whichever role. Raises SettingsError."""
    return next((node for role in registry.ROLES if (node := find(data, role))), None)


def settings(data: Path, node: Node) -> dict[str, dict[str, Any]]:
    """How it reaches the fabric, as flags are given."""
    place = folder(data, node.role)
    ca = str(place / CA) if node.private else ""
    nats = {**_NONE, "url": node.url, "seed": str(place / SEED), "ca": ca}
    found: dict[str, dict[str, Any]] = {"nats": nats}
    if node.role in SECOND:
        second = {**_NONE, "seed": str(place / SECOND_SEED)}
        found[SECOND[node.role]] = second
    if node.role != registry.INGRESS:
        found["worker"] = {"node": node.name}
    return found


def keys(data: Path, role: str) -> list[KeyPair]:
    """Its keys, which the first call makes: a second one asks for the same, if the answer to the
    first was lost. Raises SettingsError."""
    place = folder(data, role)
    found = []
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (SEED, SECOND_SEED) if role in SECOND else (SEED,):
            if not (place / name).exists():
                write_private(place / name, nkeys.make().seed + "\n")
            found.append(nkeys.read((place / name).read_text()))
    except OSError as fault:
        raise SettingsError(f"{place}: {fault.strerror}") from None
    except nkeys.NoSeed as fault:
        raise SettingsError(f"{place} has a key that is none ({fault}): delete it") from None
    return found


def keep(data: Path, node: Node) -> None:
    """Raises OSError."""
    write_private(folder(data, node.role) / FILE, orjson.dumps(asdict(node)).decode() + "\n")


def keep_ca(data: Path, role: str, text: str) -> Path:
    """Raises OSError."""
    place = folder(data, role)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(place / CA, text)
    return place / CA


def renaming(data: Path, role: str) -> Callable[[str], None]:
    """Keeps another name for this machine, by which the hub calls it. Raises OSError, if its name
    is no matter of what is kept, too."""

    def rename(name: str) -> None:
        node = find(data, role)
        if node is None:
            raise OSError(f"it is in the settings: say node = {name!r} in the section [worker]")
        keep(data, replace(node, name=name))

    return rename


def drop(data: Path, role: str) -> None:
    """Keep no key any more, as the hub knows it no more. Raises OSError."""
    place = folder(data, role)
    (place / FILE).unlink(missing_ok=True)
    for name in (SEED, SECOND_SEED):
        for file in place.glob(f"{name}*"):
            file.unlink()
