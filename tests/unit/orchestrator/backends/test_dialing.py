"""Certificates that the orchestrator dials with, and that change."""

from pathlib import Path

import structlog

from orchestrator.backends.dialing import Dialing
from paceline.rpc.tls import ClientTls
from tests.certificates import authority


def test_a_half_written_file_is_told_once_and_taken_when_it_is_whole(tmp_path: Path) -> None:
    signer = authority(tmp_path)
    whole = signer.path.read_bytes()
    dialing = Dialing(ClientTls(signer.path))
    assert not dialing.changed()
    signer.path.write_bytes(whole[: len(whole) // 2])
    with structlog.testing.capture_logs() as lines:
        assert not dialing.changed()
        assert not dialing.changed()
    [line] = lines
    assert (line["event"], line["log_level"]) == ("certificate not taken", "error")
    assert str(signer.path) in line["reason"]
    signer.path.write_bytes(whole + b"\n")
    assert dialing.changed()
    assert not dialing.changed()


def test_plaintext_has_nothing_that_changes() -> None:
    assert not Dialing(None).changed()
