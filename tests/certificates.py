"""Certificates for tests, each by an authority made on the spot."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import trustme

from paceline.rpc.tls import Identity


@dataclass(frozen=True)
class Authority:
    """Signs certificates, which are written to a folder."""

    ca: trustme.CA
    folder: Path

    @property
    def path(self) -> Path:
        """Its own certificate."""
        path = self.folder / "ca.pem"
        if not path.exists():
            path.write_bytes(self.ca.cert_pem.bytes())
        return path

    def issue(
        self, *names: str, common_name: str | None = None, until: dt.datetime | None = None
    ) -> Identity:
        """A certificate for `names`, in files called after the first."""
        made = self.ca.issue_cert(*names, common_name=common_name, not_after=until)
        certificate, key = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        key.write_bytes(made.private_key_pem.bytes())
        certificate.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        return Identity(certificate, key)


def authority(folder: Path) -> Authority:
    """A new one, whose files lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Authority(trustme.CA(), folder)


def expired() -> dt.datetime:
    """A time in the past."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
