"""Files with the credential of a person: written by an admin, put in place by `quakegrid login`.

A file has the private key, so only its owner may read it. `login` keeps one file for each cluster, by its
name, in `~/.config/quakegrid/clusters`. Does not ask any service.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.proofs import Certified

# The cluster whose credential commands use; as `--cluster`.
CHOICE = "QUAKEGRID_CLUSTER"
_VERSION = 1
_SUFFIX = ".json"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LARGEST_BYTES = 64 << 10
_WEB = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+:[0-9]{1,5}")
_TEXTS = ("cluster", "name", "role", "id", "dbserver", "broker", "ca", "certificate", "key")


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """Who a person is in a cluster, and where the cluster is."""

    cluster: str
    name: str
    role: str
    id: str
    end_time: datetime.datetime
    # `host:port`
    dbserver: str
    broker: str
    proof: Certified
    # Address of the web service, such as `https://master:8800`; empty in files of older releases.
    web: str = ""

    def check(self, now_time: datetime.datetime) -> None:
        """Refuse a credential that has ended.

        Raises:
            CredentialError: it has.
        """
        if now_time >= self.end_time:
            raise errors.CredentialError(
                f"your credential for the cluster {self.cluster} ended on {self.end_time:%Y-%m-%d}; ask an "
                f"admin for a new one (`quakegrid user renew {self.name}`), then `quakegrid login FILE`"
            )


def write(path: Path, credential: CredentialFile) -> None:
    """Write a new file that only its owner can read.

    Raises:
        UsageError: there is something of this name already.
    """
    proof = credential.proof
    document = {
        "quakegrid_credential": _VERSION,
        "cluster": credential.cluster,
        "name": credential.name,
        "role": credential.role,
        "id": credential.id,
        "end_time": credential.end_time.astimezone(datetime.UTC).isoformat(),
        "dbserver": credential.dbserver,
        "broker": credential.broker,
        "ca": proof.ca_pem.decode(),
        "certificate": proof.certificate_pem.decode(),
        "key": proof.key_pem.decode(),
        **({"web": credential.web} if credential.web else {}),
    }
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        refuse_existing(path)
        raise
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(document, indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def refuse_existing(path: Path) -> None:
    """Refuse to write over something.

    Raises:
        UsageError: there is something of this name.
    """
    if os.path.lexists(path):
        raise errors.UsageError(f"{path} is there already; give another name with --file")


def read(path: Path) -> CredentialFile:
    """Read a file.

    Raises:
        CredentialError: there is none, others can read it, or it is not one.
    """
    text = read_private(path)
    try:
        return _decode(json.loads(text))
    except (ValueError, TypeError, KeyError):
        raise errors.CredentialError(
            f"{path} is not a credential of QuakeGrid, or is damaged; `quakegrid user add` writes one"
        ) from None


def read_private(path: Path, owner: int | None = None) -> bytes:
    """What is in a file that holds a private key.

    Args:
        path: of the file.
        owner: a user to whom it may belong, beside this one and root.
    Raises:
        CredentialError: there is none, others can read it, or it is another user's.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise errors.CredentialError(f"there is no file {path}") from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        os.close(file)
        raise errors.CredentialError(f"{path} is no file")
    with os.fdopen(file, "rb") as stream:
        if found.st_mode & _OTHERS:
            raise errors.CredentialError(
                f"other users of this machine can read or change {path}, and a credential holds a private "
                f"key; `chmod 600 {path}`, and ask for a new credential if they may have read it"
            )
        if found.st_uid not in (os.geteuid(), 0, owner):
            raise errors.CredentialError(f"{path} belongs to another user; copy it to a file of your own")
        return stream.read(_LARGEST_BYTES)


def _decode(document: Mapping[str, Any]) -> CredentialFile:
    if document["quakegrid_credential"] != _VERSION:
        raise ValueError(document)
    texts = {name: document[name] for name in _TEXTS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError(document)
    if not principals.is_name(texts["cluster"]) or not principals.is_name(texts["name"]):
        raise ValueError(document)
    for name in ("dbserver", "broker"):
        split_address(texts[name])
    web = document.get("web", "")
    if not isinstance(web, str) or not (web == "" or _WEB.fullmatch(web)):
        raise ValueError(document)
    end_time = datetime.datetime.fromisoformat(document["end_time"])
    if end_time.tzinfo is None:
        raise ValueError(document)
    return CredentialFile(
        cluster=texts["cluster"],
        name=texts["name"],
        role=texts["role"],
        id=texts["id"],
        end_time=end_time,
        dbserver=texts["dbserver"],
        broker=texts["broker"],
        proof=Certified(
            ca_pem=texts["ca"].encode(),
            key_pem=texts["key"].encode(),
            certificate_pem=texts["certificate"].encode(),
        ),
        web=web,
    )


def split_address(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        ValueError: it is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not 0 < int(port) < 2**16:
        raise ValueError(address)
    return host, int(port)


# ---- those of this user


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the credentials of this user are."""
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser().absolute() / "quakegrid" / "clusters"


def names(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The clusters that this user has logged in to."""
    return sorted(path.stem for path in folder(environ).glob(f"*{_SUFFIX}"))


def put(credential: CredentialFile, environ: Mapping[str, str] = os.environ) -> Path:
    """Keep a credential for the commands of this user, in the place of an earlier one of the cluster.

    Raises:
        CredentialError: the folder is another user's.
    """
    place = folder(environ)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.stat().st_uid != os.geteuid():
        raise errors.CredentialError(f"{place} belongs to another user; remove it, and log in again")
    place.chmod(0o700)
    path = place / f"{credential.cluster}{_SUFFIX}"
    fresh = place / f".{credential.cluster}.{os.getpid()}.new"
    fresh.unlink(missing_ok=True)
    try:
        write(fresh, credential)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def remove(cluster: str, environ: Mapping[str, str] = os.environ) -> None:
    """Forget the credential for a cluster.

    Raises:
        CredentialError: there is none.
    """
    _refuse_unknown(cluster, environ)
    with contextlib.suppress(FileNotFoundError):
        _path(cluster, environ).unlink()


def chosen(choice: str = "", environ: Mapping[str, str] = os.environ) -> CredentialFile | None:
    """The credential for the cluster that the user has named; None if it has named none.

    Args:
        choice: what the command line names; empty: what the environment does.
        environ: where `QUAKEGRID_CLUSTER` may be.
    Raises:
        CredentialError: there is none for it, or it cannot be used.
    """
    name = choice or environ.get(CHOICE, "")
    if not name:
        return None
    _refuse_unknown(name, environ)
    return read(_path(name, environ))


def only(environ: Mapping[str, str] = os.environ) -> CredentialFile | None:
    """The credential of a user who has logged in to one cluster; None if to none.

    Raises:
        UsageError: to several.
        CredentialError: it cannot be used.
    """
    known = names(environ)
    if len(known) > 1:
        raise errors.UsageError(
            f"you have logged in to {', '.join(known)}; say which you mean: `quakegrid --cluster NAME …`, or "
            f"{CHOICE}=NAME in the environment"
        )
    return read(_path(known[0], environ)) if known else None


def _refuse_unknown(name: str, environ: Mapping[str, str]) -> None:
    if name in names(environ):
        return
    have = (
        f"you have logged in to {', '.join(names(environ))}"
        if names(environ)
        else "you have logged in to none"
    )
    raise errors.CredentialError(
        f"there is no credential for the cluster {name} ({have}); `quakegrid login FILE` puts one in place"
    )


def _path(cluster: str, environ: Mapping[str, str]) -> Path:
    return folder(environ) / f"{cluster}{_SUFFIX}"
