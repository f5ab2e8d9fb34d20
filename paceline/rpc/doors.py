"""What stands at a server's ports: TLS, tokens, and what may be listened on without them."""

from dataclasses import dataclass
from typing import Any

import grpc

from paceline.addresses import is_loopback
from paceline.rpc import caller
from paceline.rpc.caller import HEADER, Caller
from paceline.rpc.tls import ClientTls, Identity, ServerTls
from paceline.rpc.tokens import CallerTokens
from paceline.rpc.watched_files import Reloaded
from paceline.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Doors:
    """tls, tokens: None where there are none. reflection: whether the services can be listed.

    dials: what the process shows at the doors of servers it dials.
    """

    tls: ServerTls | None = None
    tokens: CallerTokens | None = None
    reflection: bool = True
    dials: ClientTls | None = None

    @property
    def files(self) -> tuple[Reloaded[Any], ...]:
        """All that may change while the process runs."""
        having = (self.tls, self.dials, self.tokens)
        return tuple(one.files for one in having if one is not None)

    def enter(self, context: "grpc.aio.ServicerContext[object, object]") -> Caller:
        """Who calls, from here on the current caller; Unauthenticated where that is not proven."""
        metadata = dict(context.invocation_metadata() or ())
        found = self.tokens.caller(metadata.get(HEADER)) if self.tokens else _seen(context)
        caller.adopt(found)
        return found


OPEN = Doors()
"""None at all."""


def _seen(context: "grpc.aio.ServicerContext[object, object]") -> Caller:
    """By its certificate, or else by the address it calls from: a port may be another's next."""
    for shown in context.peer_identities() or ():
        return Caller(shown.decode(errors="replace"), proven=True)
    return Caller(context.peer().rpartition(":")[0])


def identity_of(settings: ServerSettings) -> Identity | None:
    """What the server shows, and what it shows to servers it dials."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Identity(settings.tls_certificate, settings.tls_key)


def doors_of(
    settings: ServerSettings, tokens: CallerTokens | None = None, dials: ClientTls | None = None
) -> Doors:
    """As the settings say; InvalidArgument names a file that cannot be used."""
    identity, asked = identity_of(settings), settings.reflection
    tls = ServerTls(identity, settings.tls_client_ca) if identity else None
    return Doors(tls, tokens, is_loopback(settings.host) if asked is None else asked, dials)
