"""How the servers of a pool are dialed, with certificates that may change."""

import grpc

from paceline.addresses import split
from paceline.rpc.channels import open_channel
from paceline.rpc.tls import ClientTls


class Dialing:
    """Opens channels; of TLS knows whether its files are still those it last dialed with."""

    def __init__(self, tls: ClientTls | None) -> None:
        """None: plaintext."""
        self._tls = tls
        self._version = tls.version() if tls else ()

    def open(self, address: str, name: str) -> grpc.aio.Channel:
        """A channel to `address`, which `name`, host:port, resolved to and whose TLS is for it."""
        return open_channel(address, tls=self._tls, name=split(name)[0])

    def changed(self) -> bool:
        """Whether certificates have changed since this was last asked, and can be used."""
        if self._tls is None or self._tls.version() == self._version:
            return False
        self._tls.credentials()
        self._version = self._tls.version()
        return True
