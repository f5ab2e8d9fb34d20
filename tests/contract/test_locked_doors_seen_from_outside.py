"""What who comes to a locked door without the right key is told, and what the doctor sees of it."""

from pathlib import Path

import pytest

from orchestrator.__main__ import dialing_tls
from orchestrator.settings import OrchestratorSettings
from paceline.client import Client
from paceline.errors import InvalidArgument, Unavailable
from paceline.rpc.tls import ClientTls
from paceline.rpc.tokens import CallerTokens
from paceline_tools.cli.access import VARIABLES
from paceline_tools.cli.doctor import examine
from paceline_tools.cli.findings import Level
from tests.certificates import authority
from tests.contract.test_doors import chain, ready


async def test_a_client_without_the_key_is_told_what_to_look_at(tmp_path: Path) -> None:
    signer, stranger = authority(tmp_path / "signer"), authority(tmp_path / "stranger")
    async with chain(signer) as running:
        async with Client(f"localhost:{running.port}", retries=0) as client:
            with pytest.raises(Unavailable) as raised:
                await client.models()
        assert str(raised.value) == f"localhost:{running.port} speaks TLS: put grpcs:// in front"
        address = f"grpcs://localhost:{running.port}"
        async with Client(address, ca=stranger.path, retries=0) as client:
            with pytest.raises(Unavailable) as raised:
                await client.models()
        assert str(raised.value) == (
            f"localhost:{running.port} has a certificate that is not trusted (unable to get local "
            "issuer certificate): --ca (or PACELINE_CA, ca= in Python) names who signs for it"
        )


async def test_the_doctor_asks_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    signer = authority(tmp_path / "signer")
    async with chain(signer) as running:
        await ready(running.port, ClientTls(signer.path))
        plain = (await examine(f"localhost:{running.port}"))[-1]
        assert plain.level is Level.WRONG
        assert plain.what == f"localhost:{running.port} speaks TLS"
        assert plain.advice == "put grpcs:// in front"
        unsigned = (await examine(f"grpcs://localhost:{running.port}"))[-1]
        assert unsigned.level is Level.WRONG
        assert "has a certificate that is not trusted" in unsigned.what
        assert unsigned.advice == "--ca (or PACELINE_CA, ca= in Python) names who signs for it"
        signed = await examine(f"grpcs://localhost:{running.port}", ca=signer.path)
        found = {one.subject: one for one in signed}
        assert (found["TLS"].level, found["TLS"].what) == (
            Level.OK,
            "on, and its certificate is trusted",
        )


async def test_the_doctor_without_a_token_is_told_of_the_token_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    signer = authority(tmp_path / "signer")
    async with chain(signer, CallerTokens(None, {"bob": "a-token-of-bob-s-own"})) as running:
        found = (await examine(f"grpcs://localhost:{running.port}", ca=signer.path))[-1]
    assert found.level is Level.WRONG
    assert "--token" in found.what
    assert found.advice == ""


def test_authorities_that_cannot_be_used_are_told_before_any_server_is_dialed(
    tmp_path: Path,
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("hello")
    with pytest.raises(InvalidArgument, match=r"junk\.pem has no certificate in PEM"):
        dialing_tls(OrchestratorSettings(tls_server_ca=junk))
