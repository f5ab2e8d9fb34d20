"""Addresses of servers: host:port, [IPv6]:port or unix:/path."""

import ipaddress
import re

from paceline.errors import InvalidArgument

FORM = "host:port, [IPv6]:port or unix:/path"
ANY_IPV4 = "0.0.0.0"  # noqa: S104  to be compared with
LAST_PORT = 65535
_UNIX = re.compile(r"unix:.")
_GRPC = re.compile(r"(unix-abstract|vsock|dns|ipv4|ipv6|xds|google-c2p):.")
"""How the forms begin that only gRPC itself resolves."""
_NAME = re.compile(r"[^\s:/\[\]@?#,]+")


def join(host: str, port: object) -> str:
    """host:port, a host that is an IPv6 address in brackets."""
    bare = without_brackets(host)
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def split(address: str) -> tuple[str, str]:
    """Host, without brackets, and port."""
    host, _, port = address.rpartition(":")
    return without_brackets(host), port


def without_brackets(host: str) -> str:
    """An IPv6 address as it is written alone."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_host(text: str) -> bool:
    """Whether `text` is a name or an address, without a port."""
    bare = without_brackets(text)
    if bare == text and ":" not in text:
        return _NAME.fullmatch(text) is not None
    try:
        ipaddress.IPv6Address(bare)
    except ValueError:
        return False
    return True


def is_of_grpc(address: str) -> bool:
    """Whether only gRPC itself resolves it."""
    return _GRPC.match(address) is not None


def checked_target(address: str) -> str:
    """As `checked`, of an address that nobody but gRPC has to resolve."""
    return address.strip() if is_of_grpc(address.strip()) else checked(address)


def checked(address: str, field: str = "address") -> str:
    """`address` as gRPC takes it; raises InvalidArgument naming `field` when it is none."""
    address = address.strip()
    if _UNIX.match(address):
        return address
    host, _, port = address.rpartition(":")
    if not is_host(host) or not (port.isascii() and port.isdigit()):
        raise InvalidArgument.of(field, address, FORM)
    if not 1 <= int(port[:9]) <= LAST_PORT:
        raise InvalidArgument.of(field, address, f"{FORM}, the port from 1 to {LAST_PORT}")
    return join(host, port)


def is_loopback(host: str) -> bool:
    """Whether what listens there can be reached from this machine alone."""
    bare = without_brackets(host)
    return bare == "localhost" or _is_loopback_address(bare)


def is_near(address: str) -> bool:
    """Whether a connection to a resolved address surely stays on this machine."""
    return address.startswith("unix:") or _is_loopback_address(split(address)[0])


def _is_loopback_address(host: str) -> bool:
    """False of a name, whatever it stands for."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
