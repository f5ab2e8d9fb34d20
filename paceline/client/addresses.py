"""Orchestrators as a caller names them: one address or several, plaintext or TLS by scheme."""

from dataclasses import dataclass

from paceline.addresses import LAST_PORT, checked_target, is_host, is_of_grpc, join
from paceline.errors import InvalidArgument
from paceline.settings import ORCHESTRATOR_PORT

SCHEMES = {"grpc": False, "http": False, "grpcs": True, "https": True}
"""Whether each means TLS; plaintext without one."""
FORM = (
    f"host or host:port, the port from 1 to {LAST_PORT} ({ORCHESTRATOR_PORT} unless given), "
    "several with commas between, all behind grpc:// or grpcs:// (TLS); or unix:/path"
)


@dataclass(frozen=True, slots=True)
class Orchestrators:
    """Where to dial. targets: as gRPC takes them, each a name of any number of addresses."""

    targets: tuple[str, ...]
    tls: bool = False

    def __str__(self) -> str:
        return ("grpcs://" if self.tls else "") + ",".join(self.targets)


def orchestrators(address: str, field: str = "address") -> Orchestrators:
    """What `address` names; InvalidArgument names `field` where it is none."""
    if not isinstance(address, str):
        raise InvalidArgument.of(field, address, FORM)
    text = address.strip()
    scheme, found, rest = text.partition("://")
    if not found or text.startswith("dns:"):
        return Orchestrators(_targets(text, field, address))
    if scheme.lower() not in SCHEMES:
        raise InvalidArgument.of(field, address, FORM)
    return Orchestrators(_targets(rest.removesuffix("/"), field, address), SCHEMES[scheme.lower()])


def _targets(text: str, field: str, whole: str) -> tuple[str, ...]:
    """Each of the addresses."""
    try:
        return tuple(checked_target(_with_port(part)) for part in _parts(text))
    except InvalidArgument:
        raise InvalidArgument.of(field, whole, FORM) from None


def _parts(text: str) -> list[str]:
    """What commas divide. Of a path, and of what only gRPC resolves, they may be a part.

    There a comma ends an address if another one follows that cannot be mistaken: with a scheme,
    or, behind a path, with a port.
    """
    parts: list[str] = []
    for part in map(str.strip, text.split(",")):
        before = parts[-1] if parts else ""
        goes_on = before.startswith("unix:") and ":" not in part
        if goes_on or (is_of_grpc(before) and not (is_of_grpc(part) or part.startswith("unix:"))):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _with_port(part: str) -> str:
    """`part`, with the default port where it is a host alone."""
    alone = is_host(part) and not part.isdigit()
    return join(part, ORCHESTRATOR_PORT) if alone else part
