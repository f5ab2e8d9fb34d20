"""An address that cannot be listened on is refused at once, with what moves it and who is there."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.errors import InvalidArgument, PacelineError, Unavailable
from paceline.ports import SOCKET_BYTES, check_port, check_socket


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])  # noqa: S104  others may be there
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.create_server((request.param, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104
def test_a_taken_port_is_named_with_who_has_it_and_what_moves_it(taken: int, host: str) -> None:
    with pytest.raises(Unavailable) as raised:
        check_port(host, taken, "--port", purpose="metrics")
    said = str(raised.value)
    assert said.startswith(f"cannot listen on {host}:{taken} for metrics: process {os.getpid()} (")
    assert said.endswith(") does; end it, or choose another --port")


@pytest.mark.parametrize("its", [False, True])
@pytest.mark.parametrize("ours", [False, True])
def test_a_port_is_shared_where_both_say_so(its: bool, ours: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=its) as server:
        port = server.getsockname()[1]
        if its and ours:
            check_port("127.0.0.1", port, "--port", shared=True)
            return
        with pytest.raises(Unavailable) as raised:
            check_port("127.0.0.1", port, "--port", shared=ours)
    does = "does, and does not share it" if ours else "does"
    assert str(raised.value).endswith(f") {does}; end it, or choose another --port")


def test_a_free_port_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
    check_port("127.0.0.1", port, "--port")  # though connections to it linger
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):  # noqa: S104
        check_port(host, 0, "--port")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (
            "nowhere.invalid",
            "--host is 'nowhere.invalid'; it must be a name or an address of this machine; "
            "it does not resolve",
        ),
        ("a..b", "--host is 'a..b'; it must be a name or an address of this machine"),
        ("192.0.2.1", "--host is '192.0.2.1'; it must be a name or an address of this machine"),
    ],
)
def test_a_host_of_another_machine_is_refused(host: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_port(host, 0, "--port")
    assert str(raised.value).startswith(said)


def test_a_port_that_takes_more_rights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(Unavailable) as raised:
        check_port("127.0.0.1", 80, "--port")
    assert str(raised.value) == (
        "cannot listen on 127.0.0.1:80: ports below 1024 take rights that this user has not; "
        "choose another --port"
    )


def test_where_a_socket_cannot_be_is_refused(tmp_path: Path) -> None:
    check_socket(tmp_path / "new", "--socket")
    (tmp_path / "file").touch()
    long = tmp_path / ("a" * SOCKET_BYTES)
    for path, said in {
        tmp_path / "file": "it must be a new path, or a socket, not a file",
        tmp_path / "no" / "x": "it must be in a folder that exists and that this user can write to",
        long: "it must be a path of at most 103 bytes, as sockets have",
    }.items():
        with pytest.raises(InvalidArgument) as raised:
            check_socket(path, "--socket")
        assert str(raised.value).startswith("--socket is '")
        assert str(raised.value).endswith(said)


def test_a_socket_that_is_listened_on_is_taken_and_one_left_behind_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(PacelineError) as raised:
            check_socket(path, "--socket")
    assert str(raised.value) == (
        f"cannot listen on unix:{path}: another program does; end it, or choose another --socket"
    )
    check_socket(path, "--socket")
