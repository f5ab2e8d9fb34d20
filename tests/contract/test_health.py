"""python -m paceline.health, against servers and against none."""

import asyncio

import pytest
from grpc_health.v1 import health as grpc_health

from paceline.addresses import ANY_IPV4
from paceline.health import ROLES, address_of, main
from paceline.rpc.server import NOT_SERVING, SERVING, RpcServer


async def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = await asyncio.to_thread(main, list(arguments))
    return status, capsys.readouterr().out


async def test_alive_and_ready_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    servicer = grpc_health.aio.HealthServicer()
    server = RpcServer("127.0.0.1:0", registry=None)
    await server.start(servicer, ())
    address = f"127.0.0.1:{server.port}"
    asked = ("target", f"--address={address}")
    try:
        assert await said(capsys, *asked) == (0, f"target at {address}: SERVING\n")
        status, text = await said(capsys, *asked, "--ready")
        assert (status, text) == (1, f"target at {address}: NOT_FOUND\n")
        for now, expected in ((NOT_SERVING, 1), (SERVING, 0)):
            await servicer.set(ROLES["target"][0], now)
            status, text = await said(capsys, *asked, "--ready")
            assert status == expected
        assert text == f"target at {address}: SERVING\n"
    finally:
        await server.grpc.stop(0)


async def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    asked = await said(capsys, "draft", "--address=unix:/nowhere", "--seconds=5")
    assert asked == (1, "draft at unix:/nowhere: UNAVAILABLE\n")


def test_a_role_that_is_none_is_a_wrong_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["targets"])
    assert ended.value.code == 2
    assert "invalid choice: 'targets'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "127.0.0.1:7171"),
        ({"HOST": ANY_IPV4}, "127.0.0.1:7171"),
        ({"HOST": "::", "HEALTH_PORT": "9"}, "[::1]:9"),
        ({"HOST": "fd00::2"}, "[fd00::2]:7171"),
        ({"HOST": "10.0.0.2", "HEALTH_PORT": "9171"}, "10.0.0.2:9171"),
    ],
)
def test_the_address_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"PACELINE_TARGET_{name}", value)
    assert address_of("target") == address
