"""How the servers of a pool are dialed, with certificates that may change."""

import grpc

from paceline.addresses import split
from paceline.rpc.channels import open_channel
from paceline.rpc.options import TARGET_ANSWER_BYTES
from paceline.rpc.tls import ClientTls


class Dialing:
    """Opens channels; of TLS knows whether its files are still those it last dialed with."""

    def __init__(self, tls: ClientTls | None, answer_bytes: int = TARGET_ANSWER_BYTES) -> None:
        """No tls: plaintext. answer_bytes: of the largest message that is taken."""
        self._tls = tls
        self._answer_bytes = answer_bytes
        self._dialed = tls.files.current if tls else None

    def open(self, address: str, name: str) -> grpc.aio.Channel:
        """A channel to `address`, which `name`, host:port, resolved to and whose TLS is for it."""
        shown = split(name)[0]
        return open_channel(address, tls=self._tls, name=shown, answer_bytes=self._answer_bytes)

    def changed(self) -> bool:
        """Whether certificates have changed since this was last asked, and can be used."""
        if self._tls is None:
            return False
        before, self._dialed = self._dialed, self._tls.files.look()
        return self._dialed is not before
