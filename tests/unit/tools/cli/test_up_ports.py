"""Where the servers of `up` listen."""

import socket
from collections.abc import Iterator

import pytest

from paceline.errors import Unavailable
from paceline_tools.cli import up_ports
from paceline_tools.cli.up_ports import Ports, choose_ports, usual_ports

NAMES = ("orchestrator", "target")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ports that nobody can have."""
    ports: set[int] = set()

    def check(host: str, port: int, setting: str) -> None:
        if port in ports:
            raise Unavailable(f"{host}:{port} is taken")

    monkeypatch.setattr(up_ports, "check_port", check)
    return ports


def chosen(port: int = 7070, *, gateway: bool = False) -> Ports:
    usual = usual_ports(port, NAMES, page=True, gateway=gateway)
    return choose_ports("127.0.0.1", port, usual)


def test_the_usual_ports_lie_above_the_orchestrators(taken: set[int]) -> None:
    ports = chosen(gateway=True)
    assert dict(ports.of) == {
        "health of the orchestrator": 7170,
        "metrics of the orchestrator": 7270,
        "health of the target": 7171,
        "metrics of the target": 7271,
        "the page": 7370,
        "the gateway": 8070,
        "metrics of the gateway": 8270,
    }
    assert ports.news == ""


def test_a_port_that_is_taken_is_another_one_that_is_nobodys(taken: set[int]) -> None:
    taken |= {7170, 7370, 7371}
    ports = chosen()
    assert (ports.health("orchestrator"), ports.health("target")) == (7172, 7171)
    assert ports.news == (
        "some ports are taken, so others are used: health of the orchestrator at 7172, the page "
        "at 7372"
    )


def test_no_two_have_one_port(taken: set[int]) -> None:
    names = [f"target {at}" for at in range(150)]
    usual = usual_ports(7070, names, page=True, gateway=True)
    assert len(set(usual.values())) < len(usual)
    ports = set(choose_ports("127.0.0.1", 7070, usual).of.values())
    assert len(ports - {7070}) == len(usual)


def test_there_are_no_ports_above_the_last(taken: set[int]) -> None:
    assert max(chosen(65000, gateway=True).of.values()) <= 65535


def test_without_any_free_port_that_is_said(taken: set[int]) -> None:
    taken |= set(range(65001, 65536))
    with pytest.raises(Unavailable) as raised:
        chosen(65000)
    assert str(raised.value) == (
        "no port is free for health of the orchestrator; choose another --port"
    )


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_listens_is_evaded(listening: int) -> None:
    ports = choose_ports("127.0.0.1", 1, {"the page": listening})
    assert ports.moved == ["the page"]
    assert ports.of["the page"] != listening
