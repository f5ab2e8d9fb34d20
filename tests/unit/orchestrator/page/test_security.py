"""Whose pages may ask, told by the headers that browsers cannot be made to leave out."""

import pytest

from orchestrator.page.exchange import Refused
from orchestrator.page.security import check_host, check_post, is_loopback


@pytest.mark.parametrize(
    ("host", "its"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_what_means_this_machine_alone(host: str, its: bool) -> None:
    assert is_loopback(host) is its


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:7370", "127.0.0.1:9000", "[::1]:7370", "[::1]"]
)
def test_a_page_of_this_machine_is_asked_for_by_its_names(host: str) -> None:
    check_host({"host": host}, "127.0.0.1")


@pytest.mark.parametrize("host", ["rebound.example:7370", "10.0.0.1", "", "localhost.evil:80"])
def test_a_name_that_was_made_to_mean_this_machine_is_refused(host: str) -> None:
    with pytest.raises(Refused) as refused:
        check_host({"host": host}, "localhost")
    assert refused.value.status == 421
    assert str(refused.value) == (
        f"Host is {host!r}; it must be localhost: the page is not for others"
    )


def test_a_page_that_others_may_reach_has_whatever_name_they_use() -> None:
    check_host({"host": "paceline.example"}, "0.0.0.0")  # noqa: S104


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
