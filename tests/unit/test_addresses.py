"""Addresses: two families, and what is none."""

import pytest

from paceline.addresses import checked_target, join, split
from paceline.errors import InvalidArgument


@pytest.mark.parametrize(
    ("host", "joined"),
    [
        ("localhost", "localhost:7070"),
        ("0.0.0.0", "0.0.0.0:7070"),  # noqa: S104
        ("::", "[::]:7070"),
        ("::1", "[::1]:7070"),
        ("[::1]", "[::1]:7070"),
        ("fe80::1%eth0", "[fe80::1%eth0]:7070"),
    ],
)
def test_host_and_port_make_an_address(host: str, joined: str) -> None:
    assert join(host, 7070) == joined
    assert split(joined) == (host.strip("[]"), "7070")


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("localhost:7070", "localhost:7070"),
        (" localhost:7070\n", "localhost:7070"),
        ("paceline-target.default.svc:7071", "paceline-target.default.svc:7071"),
        ("a_b:1", "a_b:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("::1:7070", "[::1]:7070"),
        ("[fe80::1%eth0]:7070", "[fe80::1%eth0]:7070"),
        ("unix:/tmp/a b", "unix:/tmp/a b"),
        ("unix:relative", "unix:relative"),
        ("dns:///far.example:7070", "dns:///far.example:7070"),
        ("ipv6:[::1]:7070", "ipv6:[::1]:7070"),
    ],
)
def test_an_address_is_taken(address: str, taken: str) -> None:
    assert checked_target(address) == taken


@pytest.mark.parametrize(
    "address",
    [
        "",
        "  ",
        "host",
        "host:",
        ":7070",
        "host:port",
        "host:0",
        "host:-1",
        "host:65536",
        "host:99999",
        "host:" + "9" * 5000,
        "host:²",
        "host:7070/",
        "http://host:1",
        "https://host",
        "far away:7070",
        "user@host:1",
        "::1",
        "[::1]",
        "[localhost]:7070",
        "[::1:7070",
        "a:1,b:2",
        "unix:",
    ],
)
def test_what_is_no_address_is_named_with_what_one_is(address: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^address is .*; it must be host:port, \[IPv6\]"):
        checked_target(address)
