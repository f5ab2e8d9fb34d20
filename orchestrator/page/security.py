"""Who may ask for the page: nobody's page but our own. Pure.

Browsers carry requests of any page to any address, this machine's included. A page of somebody
else's is told by Origin, which browsers put into every POST; one whose name was made to stand for
this machine (DNS rebinding) by Host, as far as it can be known which names are ours. Answers say
that nobody may read, frame or sniff them, and that the page runs no script but its own.
"""

import ipaddress
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


def is_loopback(host: str) -> bool:
    """Whether who listens there, or asks for it, means this machine alone."""
    bare = without_brackets(host)
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare.lower() == "localhost"


def check_host(headers: Mapping[str, str], listens: str) -> None:
    """Refused where the page is this machine's alone, and was asked for by another name."""
    named = headers.get("host", "")
    host = named if named.endswith("]") or ":" not in named else split(named)[0]
    if is_loopback(listens) and not is_loopback(host):
        raise Refused(421, f"Host is {named!r}; it must be localhost: the page is not for others")


def check_post(headers: Mapping[str, str]) -> None:
    """Refused for what a page of somebody else's could have sent."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Refused(415, f"Content-Type is {kind!r}; it must be {JSON}")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise Refused(403, f"Origin is {origin!r}; it must be this page's own")
