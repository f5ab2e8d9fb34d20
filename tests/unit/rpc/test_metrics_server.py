"""What the port for metrics shows while certificates change: what calls are shown."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from paceline.rpc.doors import Doors
from paceline.rpc.metrics_server import MetricsServer
from paceline.rpc.process_metrics import process_registry
from paceline.rpc.tls import Identity, ServerTls
from tests.certificates import Authority, authority, expired

EXPIRATION = "paceline_certificate_expiration_timestamp_seconds"
SUCCESSFUL = "paceline_files_last_reload_successful"


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    return authority(tmp_path / "signer")


@pytest.fixture
def tls(signer: Authority) -> ServerTls:
    return ServerTls(signer.issue("localhost"))


@pytest.fixture
def shown(tls: ServerTls) -> Iterator[Callable[[], str]]:
    """What a scrape is shown now, in PEM."""
    server = MetricsServer("127.0.0.1", 0, CollectorRegistry(), tls)
    port = server._server.server_address[1]
    yield lambda: ssl.get_server_certificate(("127.0.0.1", int(port)), timeout=10)
    server.stop()


def first(path: Path) -> str:
    """The first certificate of a file."""
    end = "-----END CERTIFICATE-----\n"
    return path.read_text().partition(end)[0] + end


def unusable(signer: Authority, tls: ServerTls, how: str, other: Identity) -> None:
    """Make the files of a server such as cannot be used."""
    if how == "expired":
        signer.issue("localhost", until=expired())
    elif how == "not its key":
        tls.identity.certificate.write_bytes(other.certificate.read_bytes())
    elif how == "half":
        whole = tls.identity.key.read_bytes()
        tls.identity.key.write_bytes(whole[: len(whole) // 2])
    else:
        tls.identity.key.unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("expired", "localhost.pem has expired, at "),
        ("not its key", "localhost.key is not the key of "),
        ("half", "localhost.key has no usable key in PEM: "),
        ("gone", "localhost.key cannot be read: No such file"),
    ],
)
def test_the_old_certificate_stays_where_the_new_one_cannot_be_used(
    how: str, said: str, signer: Authority, tls: ServerTls, shown: Callable[[], str]
) -> None:
    old = first(tls.identity.certificate)
    registry, other = process_registry(Doors(tls)), signer.issue("other")
    assert shown() == old
    with structlog.testing.capture_logs() as lines:
        unusable(signer, tls, how, other)
        assert [shown() for _ in range(3)] == [old] * 3
    told(lines, said)
    assert registry.get_sample_value(SUCCESSFUL, {"files": "certificate"}) == 0
    signer.issue("localhost")
    assert shown() == first(tls.identity.certificate) != old
    assert registry.get_sample_value(SUCCESSFUL, {"files": "certificate"}) == 1
    assert registry.get_sample_value(EXPIRATION) == tls.identity.expires


def told(lines: list[EventDict], said: str) -> None:
    """Once, as an error."""
    [line] = lines
    assert (line["event"], line["log_level"]) == ("certificate not taken", "error")
    assert said in line["reason"]


def test_without_tls_there_is_no_expiration() -> None:
    registry = process_registry()
    assert registry.get_sample_value(EXPIRATION) is None
    assert registry.get_sample_value(SUCCESSFUL, {"files": "certificate"}) is None
