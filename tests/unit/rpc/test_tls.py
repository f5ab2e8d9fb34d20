"""Files of TLS: what is taken, and what each that cannot be used is told."""

from pathlib import Path

import pytest

from paceline.errors import InvalidArgument
from paceline.rpc.tls import ClientTls, Identity, ServerTls, read_authorities
from paceline.rpc.watched_files import version
from tests.certificates import authority, expired


def test_an_identity_is_read_as_key_and_chain(tmp_path: Path) -> None:
    identity = authority(tmp_path).issue("target")
    assert identity.read() == (identity.key.read_bytes(), identity.certificate.read_bytes())
    assert identity.expires > 1.7e9


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    signer = authority(tmp_path)
    target, draft, old = (signer.issue(*names) for names in (("target",), ("draft",), ("old",)))
    old = signer.issue("old", until=expired())
    nothing, text = tmp_path / "nothing", tmp_path / "text"
    text.write_text("hello")
    cases = [
        (Identity(target.certificate, draft.key), f"{draft.key} is not the key of"),
        (Identity(nothing, draft.key), f"{nothing} cannot be read: No such file or directory"),
        (Identity(target.certificate, nothing), f"{nothing} cannot be read: No such file"),
        (Identity(text, target.key), f"{text} has no certificate in PEM: "),
        (Identity(target.certificate, text), f"{text} has no usable key in PEM: "),
        (Identity(target.key, target.certificate), f"{target.key} has no certificate in PEM: "),
        (old, f"{old.certificate} has expired, at "),
    ]
    for identity, said in cases:
        with pytest.raises(InvalidArgument) as raised:
            ServerTls(identity).credentials()
        assert str(raised.value).startswith(said)
        assert "\n" not in str(raised.value)
        with pytest.raises(InvalidArgument):
            ClientTls(signer.path, identity).credentials()
    for path in (nothing, text):
        with pytest.raises(InvalidArgument, match=str(path)):
            read_authorities(path)


def test_a_version_changes_with_what_a_link_points_to(tmp_path: Path) -> None:
    first, second, link = tmp_path / "1", tmp_path / "2", tmp_path / "link"
    first.write_text("a")
    second.write_text("bb")
    assert version((link,)) == ((0, 0),)
    link.symlink_to(first)
    before = version((link,))
    link.unlink()
    link.symlink_to(second)
    assert before != version((link,)) != ((0, 0),)
