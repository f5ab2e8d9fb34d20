"""Why nobody answers: one look at who listens there, and at what its certificate says.

gRPC tells of one address only, and of TLS in words of its own: ::1 refuses, where 127.0.0.1 has a
certificate that nobody trusts.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.extensions import ExtensionNotFound
from cryptography.x509.oid import NameOID

from paceline.addresses import is_of_grpc, split
from paceline.client.access import Access
from paceline.errors import PacelineError, Unavailable, listed
from paceline.rpc.channels import resolve

LOOK_SECONDS = 1.0
"""One connection, with its handshake, takes so long at most."""
ALL_SECONDS = 2.0
"""All of a look does."""
RUNNING = "is it running?"
"""What is asked where nobody listens."""
_HANG_UP_SECONDS = 0.3
"""A server that misses a certificate does so at once."""
_REFUSED = "connection refused"
_LATE = f"no connection within {LOOK_SECONDS:g} s"
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = (62, 64)
"""Codes of X.509 verification, of a name and of an IP address (openssl-verification-options)."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
"""Why OpenSSL gives up where the first bytes are no TLS; which of them, its version decides."""
_GRPC_SAYS = re.compile(
    r"^.*last error: |^[A-Z_]+: (?=\w)|^(ipv[46]|unix):\S+: |^Failed to connect to remote host: "
)
_PREFIXES = ("dns:///", "dns:", "ipv4:", "ipv6:")


class NobodyThere(Unavailable):
    """What gRPC says where it cannot connect; inside the client only."""

    def __init__(self, target: str, why: str) -> None:
        """why: as gRPC says it."""
        super().__init__(f"nobody answers at {target}: {_brief(why)}; {RUNNING}")
        self.target = target


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """what: behind the address. advice: what to do. final: trying again does not help."""

    what: str
    advice: str
    final: bool = True

    def of(self, target: str) -> str:
        """In a line."""
        if self.final:
            return f"{target} {self.what}: {self.advice}"
        return f"nobody answers at {target}: {self.what}; {self.advice}"


_PLAINTEXT = Diagnosis("speaks plaintext", "leave out grpcs://")
_TLS = Diagnosis("speaks TLS", "put grpcs:// in front")
_ASKS = Diagnosis(
    "asks for a certificate",
    "--certificate and --key (or PACELINE_CERTIFICATE and PACELINE_KEY, certificate= and key= in "
    "Python) name what to show",
)
_DOUBTED = Diagnosis(
    "it asks for a certificate, and may not trust the one shown",
    "is that signed by one it trusts, and not expired (--certificate, certificate= in Python)?",
    final=False,
)


@dataclass(frozen=True, slots=True)
class Dialer:
    """How it dialed. roots: in PEM; the system's where None. shows: a certificate of its own."""

    tls: bool
    roots: bytes | None = None
    shows: bool = False

    @classmethod
    def of(cls, access: Access, *, tls: bool) -> "Dialer":
        """Who shows that."""
        return cls(tls, access.roots, access.identity is not None)


async def look(target: str, dialer: Dialer, seconds: float | None = None) -> Diagnosis | None:
    """Why a call to `target` found nobody; None where a look does not tell.

    Takes `seconds`, ALL_SECONDS at most.
    """
    if (name := _dialed(target)) is None:
        return None
    limit = ALL_SECONDS if seconds is None else min(seconds, ALL_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            return await _look(name, dialer)
    return None


async def _look(name: str, dialer: Dialer) -> Diagnosis | None:
    try:
        found = await resolve(name)
    except Unavailable as error:
        why = re.sub(r"^\[Errno -?\d+\] ", "", str(error).partition("does not resolve: ")[2])
        what = f"the name does not resolve ({why})" if why else "the name does not resolve"
        return Diagnosis(what, "is it spelt right?", final=False)
    host = split(name)[0]
    looks = await asyncio.gather(*(_at(one, host, dialer) for one in found))
    return _clearest(looks)


def _clearest(looks: Iterable[Diagnosis | None]) -> Diagnosis | None:
    """What one of the addresses is sure of; that nobody listens only where that holds for all."""
    known = list(looks)
    for one in known:
        if one is not None and (one.final or one is _DOUBTED):
            return one
    return known[0] if known and None not in known else None


async def _at(address: str, host: str, dialer: Dialer) -> Diagnosis | None:
    """One address. host: as the caller named it, which a certificate is for."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            _, writer = await asyncio.open_connection(*_where(address))
    except OSError as error:  # TimeoutError too
        return Diagnosis(_why_not(error), RUNNING, final=False)
    writer.close()
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await _by_handshake(address, host, dialer)
    except OSError:
        return None


async def _by_handshake(address: str, host: str, dialer: Dialer) -> Diagnosis | None:
    try:
        names = _names(await _certificate(address))
    except ssl.SSLError as error:
        plain = dialer.tls and error.reason in _NO_TLS
        return _PLAINTEXT if plain else None
    if not dialer.tls:
        return _TLS
    try:
        return await _asks_for_one(address, host, dialer)
    except ssl.SSLCertVerificationError as error:
        return _distrusted(error, host, names)


async def _certificate(address: str) -> bytes:
    """The server's, in DER, whoever signed it; SSLError where no TLS is spoken."""
    anyone = _context(None)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*_where(address), ssl=anyone)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown or b""


async def _asks_for_one(address: str, host: str, dialer: Dialer) -> Diagnosis | None:
    """A server's certificate is trusted; it may ask for its caller's.

    gRPC's server speaks first, and hangs up on who shows none (TLS 1.3: behind the handshake). The
    one that is shown is not shown here, so of that nothing is sure.
    """
    reader, writer = await asyncio.open_connection(
        *_where(address), ssl=_context(dialer.roots), server_hostname=host
    )
    try:
        if await asyncio.wait_for(reader.read(1), _HANG_UP_SECONDS):
            return None
    except TimeoutError:
        return None
    except OSError:
        pass
    finally:
        writer.close()
    return _DOUBTED if dialer.shows else _ASKS


def _distrusted(error: ssl.SSLCertVerificationError, host: str, names: list[str]) -> Diagnosis:
    if error.verify_code in _OTHER_NAME:
        what = f"has a certificate for {listed(names)}, not for {host}"
        return Diagnosis(what, "ask for it by a name that its certificate has")
    if error.verify_code in (_EXPIRED, _NOT_YET):
        what = "expired" if error.verify_code == _EXPIRED else "not valid yet"
        return Diagnosis(
            f"has a certificate that is {what}",
            "who runs it must renew it, or the clock of this machine is wrong",
        )
    return Diagnosis(
        f"has a certificate that is not trusted ({error.verify_message})",
        "--ca (or PACELINE_CA, ca= in Python) names who signs for it",
    )


def _names(certificate: bytes) -> list[str]:
    """Names and IP addresses that a certificate in DER is for."""
    try:
        read = x509.load_der_x509_certificate(certificate)
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except ExtensionNotFound:
        common = read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [str(one.value) for one in common]
    except ValueError:
        return []
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _context(roots: bytes | None) -> ssl.SSLContext:
    """For HTTP/2, as gRPC's is. roots that are none leave it without any."""
    context = ssl.create_default_context()
    if roots is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with contextlib.suppress(ssl.SSLError, ValueError):
            context.load_verify_locations(cadata=roots.decode(errors="replace"))
    context.set_alpn_protocols(["h2"])
    return context


def _dialed(target: str) -> str | None:
    """host:port of what can be looked at; a path, and what only gRPC resolves, cannot."""
    for prefix in _PREFIXES:
        target = target.removeprefix(prefix)
    host, port = split(target)
    plain = host and port.isdigit() and not target.startswith(("unix:", "//"))
    return target if plain and not is_of_grpc(target) else None


def _where(address: str) -> tuple[str, int]:
    host, port = split(address)
    return host, int(port)


def _why_not(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return _REFUSED
    if isinstance(error, TimeoutError):
        return _LATE
    return (error.strerror or str(error)).lower()


def _brief(why: str) -> str:
    """What gRPC says without what it says of itself."""
    before = ""
    while why != before:
        before, why = why, _GRPC_SAYS.sub("", why)
    return _REFUSED if why.startswith("Connection refused") else why


def explained(error: PacelineError, found: Diagnosis | None) -> Unavailable:
    """The error that a caller gets of one that nobody answered."""
    target = error.target if isinstance(error, NobodyThere) else ""
    return Unavailable(found.of(target) if found is not None and target else str(error))
