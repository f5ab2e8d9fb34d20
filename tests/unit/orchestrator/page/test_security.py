"""Whose pages may ask, told by the headers that browsers cannot be made to leave out."""

import socket

import pytest

from orchestrator.page.exchange import Refused
from orchestrator.page.security import check_host, check_post, names_of

NAMES = frozenset({"localhost", "box"})


def test_a_page_has_the_names_of_its_machine_and_the_one_that_it_listens_at() -> None:
    assert names_of("Box.Example") == {"localhost", "box.example", socket.gethostname().lower()}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:7370",
        "box:7370",
        "127.0.0.1:9000",
        "10.0.0.1",
        "[::1]:7370",
        "[::1]",
    ],
)
def test_a_page_is_asked_for_by_an_address_or_a_name_of_its_own(host: str) -> None:
    check_host({"host": host}, NAMES)


@pytest.mark.parametrize(
    "host",
    ["rebound.example:7370", "", "localhost.evil:80", "localhost.", "a:b:c", "127.0.0.1.evil"],
)
def test_a_name_that_was_made_to_mean_this_machine_is_refused(host: str) -> None:
    with pytest.raises(Refused) as refused:
        check_host({"host": host}, NAMES)
    assert refused.value.status == 421
    assert str(refused.value) == f"Host is {host!r}; it must be an address or box, localhost"


def test_an_address_to_listen_at_is_no_name_to_offer() -> None:
    with pytest.raises(Refused, match=r"it must be an address or localhost$"):
        check_host({"host": "evil"}, frozenset({"localhost", "0.0.0.0"}))  # noqa: S104


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize("origin", [{}, {"origin": "http://a:1"}, {"origin": "https://a:1"}])
def test_our_own_script_may_post_and_so_may_what_is_no_browser(
    kind: str, origin: dict[str, str]
) -> None:
    check_post({"host": "a:1", "content-type": kind, **origin})


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({}, 415, "Content-Type is ''; it must be application/json"),
        (
            {"content-type": "text/plain"},
            415,
            "Content-Type is 'text/plain'; it must be application/json",
        ),
        (
            {"content-type": "application/json", "origin": "http://evil.example"},
            403,
            "Origin is 'http://evil.example'; it must be this page's own",
        ),
        (
            {"content-type": "application/json", "origin": "null"},
            403,
            "Origin is 'null'; it must be this page's own",
        ),
    ],
)
def test_what_another_page_sends_is_refused(
    headers: dict[str, str], status: int, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        check_post({"host": "a:1", **headers})
    assert (refused.value.status, str(refused.value)) == (status, said)
