"""Whether addresses can be listened on: asked before anything else is begun."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from paceline.addresses import join, without_brackets
from paceline.errors import InvalidArgument, PacelineError, Unavailable

SOCKET_BYTES = 103
"""Most bytes of a socket's path: Linux takes 107, macOS fewer."""
_ASK_SECONDS = 0.5
_PRIVILEGED = 1024


Who = Callable[[str, int], str]
"""Who of ours listens at a host and port, in words; empty where none does."""


def check_port(
    host: str,
    port: int,
    setting: str,
    *,
    purpose: str = "",
    who: Who = lambda *_: "",
    shared: bool = False,
) -> None:
    """Raise Unavailable when nobody could listen there now, naming the setting that moves it.

    purpose: what listens, beside calls. who: asked where the port is taken. shared: it is not
    taken by who shares it. Raises InvalidArgument where the host is none of this machine's. Port 0,
    any free one, is never taken.
    """
    try:
        found = socket.getaddrinfo(without_brackets(host), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name"
        limit = f"a name or an address of this machine; it does not resolve: {reason}"
        raise InvalidArgument.of("--host", host, limit) from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as sock:
            if (failed := _bound(sock, address, shared)) is None:
                continue
            if failed.errno == errno.EADDRINUSE:
                there = who(host, port)
                raise _taken(join(host, port), setting, purpose, _listener(port, there), shared)
            raise _refusal(failed, host, port, setting, purpose)


def _bound(sock: socket.socket, address: object, shared: bool) -> OSError | None:
    """Why it cannot be bound there; None where it could."""
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if os.name == "posix":  # what a server that has ended left behind does not count
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)  # type: ignore[arg-type]  # of whichever family it is
    except OSError as error:
        return error
    return None


def _taken(address: str, setting: str, purpose: str, there: str, shared: bool) -> Unavailable:
    what = f"cannot listen on {address}{f' for {purpose}' if purpose else ''}"
    does = "does, and does not share it" if shared else "does"
    return Unavailable(f"{what}: {there} {does}; end it, or choose another {setting}")


def _listener(port: int, ours: str) -> str:
    return f"{ours}, {_process(port)}," if ours else _process(port)


def _refusal(error: OSError, host: str, port: int, setting: str, purpose: str) -> PacelineError:
    what = f"cannot listen on {join(host, port)}{f' for {purpose}' if purpose else ''}"
    if error.errno == errno.EACCES and port < _PRIVILEGED:
        why = f"ports below {_PRIVILEGED} take rights that this user has not"
        return Unavailable(f"{what}: {why}; choose another {setting}")
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidArgument.of("--host", host, "a name or an address of this machine")
    return Unavailable(f"{what}: {error.strerror}; choose another {setting}")


def _process(port: int) -> str:
    """The process that listens there, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            listens = found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,)
            if listens and found.pid:
                return f"process {found.pid} ({_command(found.pid)})"
    return "another process"


def _command(pid: int) -> str:
    """What runs there: a Python program by its module or file."""
    process = psutil.Process(pid)
    words = [word for word in process.cmdline()[1:] if not word.startswith("-")]
    name = process.name()
    return f"{name} {Path(words[0]).name}" if name.startswith("python") and words else name


def check_socket(path: Path, setting: str) -> None:
    """Raise InvalidArgument when nobody can listen on a Unix socket there, Unavailable if taken."""
    if len(os.fsencode(path)) > SOCKET_BYTES:
        limit = f"a path of at most {SOCKET_BYTES} bytes, as sockets have"
        raise InvalidArgument.of(setting, str(path), limit)
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        limit = "in a folder that exists and that this user can write to"
        raise InvalidArgument.of(setting, str(path), limit)
    if path.exists() and not path.is_socket():
        raise InvalidArgument.of(setting, str(path), "a new path, or a socket, not a file")
    if _answers(path):
        raise Unavailable(
            f"cannot listen on unix:{path}: another program does; end it, or "
            f"choose another {setting}"
        )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_ASK_SECONDS)
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True
