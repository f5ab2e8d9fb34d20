"""What a name stands for: each of several addresses is dialed as an orchestrator of its own."""

import ipaddress

from paceline.addresses import is_of_grpc, split
from paceline.errors import Unavailable
from paceline.rpc.channels import resolve

_LISTS = ("ipv4:", "ipv6:")
_DNS = "dns:"


async def addresses(target: str) -> tuple[str, ...]:
    """What to dial for `target`, which gRPC resolves where it is given back as it is.

    So are names of one address, and of one in each IP family, as localhost: that is one
    orchestrator. Of what does not resolve gRPC says why.
    """
    if target.startswith(_LISTS):
        scheme, _, several = target.partition(":")
        return tuple(f"{scheme}:{one.strip()}" for one in several.split(","))
    if (name := _name(target)) is None:
        return (target,)
    try:
        found = await resolve(name)
    except Unavailable:
        return (target,)
    of_six = sum(one.startswith("[") for one in found)
    return tuple(found) if max(of_six, len(found) - of_six) > 1 else (target,)


def may_change(target: str) -> bool:
    """Whether it may stand for other addresses by and by."""
    return _name(target) is not None


def _name(target: str) -> str | None:
    """host:port where the host is a name that the system resolves."""
    bare = target.removeprefix(_DNS).removeprefix("///")
    if target.startswith("unix:") or is_of_grpc(bare) or bare.startswith("//"):
        return None
    host, port = split(bare)
    return bare if host and port and not _is_address(host) else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
