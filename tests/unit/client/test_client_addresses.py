"""Where a client dials: hosts with or without a port, several, plaintext or TLS by scheme."""

import pytest

from paceline.client.addresses import FORM, Orchestrators, orchestrators
from paceline.errors import InvalidArgument

GOOD = {
    "localhost": Orchestrators(("localhost:7070",)),
    "localhost:80": Orchestrators(("localhost:80",)),
    " a:1 , b ": Orchestrators(("a:1", "b:7070")),
    "::1": Orchestrators(("[::1]:7070",)),
    "[::1]": Orchestrators(("[::1]:7070",)),
    "[::1]:5,10.0.0.1": Orchestrators(("[::1]:5", "10.0.0.1:7070")),
    "grpc://a:1,b:2": Orchestrators(("a:1", "b:2")),
    "http://a": Orchestrators(("a:7070",)),
    "HTTP://a:1/": Orchestrators(("a:1",)),
    "https://a:443": Orchestrators(("a:443",), tls=True),
    "grpcs://a,b:2": Orchestrators(("a:7070", "b:2"), tls=True),
    "unix:/run/x,y": Orchestrators(("unix:/run/x,y",)),
    "unix:/a,unix:/b": Orchestrators(("unix:/a", "unix:/b")),
    "unix:/a,b, unix:/c,d:1": Orchestrators(("unix:/a,b", "unix:/c", "d:1")),
    "a,unix:/b": Orchestrators(("a:7070", "unix:/b")),
    "dns:///a:5,dns:///b:5,unix:/c": Orchestrators(("dns:///a:5", "dns:///b:5", "unix:/c")),
    "ipv4:10.0.0.1:5,10.0.0.2:5": Orchestrators(("ipv4:10.0.0.1:5,10.0.0.2:5",)),
    "dns:///a:5": Orchestrators(("dns:///a:5",)),
}


@pytest.mark.parametrize("address", GOOD)
def test_an_address_is_read(address: str) -> None:
    assert orchestrators(address) == GOOD[address]
    assert orchestrators(str(GOOD[address])) == GOOD[address]


@pytest.mark.parametrize(
    "address",
    ["", " ", ",", "a,", "a:b", "a:0", "a:99999", "7070", "ftp://a", "a://", "https://", "a/b",
     "http://a/b", "http://a,https://b", "http://user@a", "a b", "a:1:2", "::g"],
)  # fmt: skip
def test_a_bad_one_is_refused_by_name(address: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        orchestrators(address, "--address")
    assert str(raised.value) == f"--address is {address!r}; it must be {FORM}"
