"""Channels, and the addresses that a name stands for."""

import asyncio
import socket

import grpc

from paceline.addresses import join, split
from paceline.errors import Unavailable
from paceline.rpc.options import MAX_MESSAGE_BYTES, channel_options
from paceline.rpc.tls import ClientTls

RESOLVE_SECONDS = 2.0


def open_channel(
    address: str,
    proxy: str = "",
    tls: ClientTls | None = None,
    name: str = "",
    answer_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """A channel to host:port or unix:/path, which knows no TLS; connects when first used.

    name: what the server's certificate must be for, where `address` is what a name resolved to.
    answer_bytes: of the largest message that is taken.
    """
    options = channel_options(answer_bytes, proxy)
    if tls is None or address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=options)
    shown = name or split(address)[0]
    options += [("grpc.ssl_target_name_override", shown), ("grpc.default_authority", shown)]
    return grpc.aio.secure_channel(address, tls.credentials(), options=options)


async def resolve(address: str) -> list[str]:
    """The addresses, ip:port, that a host:port stands for; unix:/path stands for itself.

    Raises Unavailable when the name is not known or no answer comes in RESOLVE_SECONDS.
    """
    if address.startswith("unix:"):
        return [address]
    host, port = split(address)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise Unavailable(f"{address} does not resolve: {error}") from error
    # IPv6 behind IPv4, as "[" is behind the digits.
    return sorted({_address(*info[4]) for info in found})


def _address(host: object, port: object, _flow: object = 0, scope: object = 0) -> str:
    """Of a socket address; a link-local one of IPv6 holds for one interface only."""
    bare = str(host).partition("%")[0]
    return join(f"{bare}%{scope}" if scope else bare, port)
