"""Who may ask for the page: nobody's page but our own. Pure.

Browsers carry requests of any page to any address, this machine's included. A page of somebody
else's is told by Origin, which browsers put into every POST; one whose name was made to stand for
this machine (DNS rebinding) by Host: an address is no name, and of names only this machine's own
are taken. Answers say that nobody may read, frame or sniff them, and that the page runs no script
but its own.
"""

import ipaddress
import socket
from collections.abc import Mapping

from orchestrator.page.exchange import Headers, Refused
from paceline.addresses import split, without_brackets

JSON = "application/json"
HEADERS: Headers = (
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Of every response."""


def names_of(listens: str) -> frozenset[str]:
    """Names by which a page that listens there may be asked for, beside any address."""
    return frozenset(name.lower() for name in ("localhost", listens, socket.gethostname()))


def check_host(headers: Mapping[str, str], names: frozenset[str]) -> None:
    """Refused where the page was asked for by a name that is not one of ours."""
    named = headers.get("host", "")
    host = named if named.endswith("]") or ":" not in named else split(named)[0]
    if host.lower() not in names and not _is_address(without_brackets(host)):
        raise Refused(421, f"Host is {named!r}; it must be an address or {_one_of(names)}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _one_of(names: frozenset[str]) -> str:
    return ", ".join(sorted(name for name in names if not _is_address(without_brackets(name))))


def check_post(headers: Mapping[str, str]) -> None:
    """Refused for what a page of somebody else's could have sent."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Refused(415, f"Content-Type is {kind!r}; it must be {JSON}")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise Refused(403, f"Origin is {origin!r}; it must be this page's own")
