"""A hub on this machine: what huggingface_hub asks of the real one when a model is fetched."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

COMMIT = "1" * 40


@dataclass
class Hub:
    """Its repositories, and what it does. asked: methods, paths and ranges of all requests.

    gated: needs this token. breaks: how many times the connection ends half way through weights.
    status: what it answers instead. wrong_hash: it says other hashes than those of its files.
    commit: what main is.
    """

    repositories: dict[str, Path]
    gated: str = ""
    breaks: int = 0
    status: int = 0
    wrong_hash: bool = False
    commit: str = COMMIT
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def files(self, repository: str) -> list[Path]:
        return sorted(one for one in self.repositories[repository].rglob("*") if one.is_file())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324  git's own


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        path = self.path.partition("?")[0].removeprefix("/")
        is_api = path.startswith("api/models/")
        owner, name, *rest = path.removeprefix("api/models/").split("/")
        repository = f"{owner}/{name}"
        if self.hub.status:
            self._refuse(self.hub.status, "")
        elif repository not in self.hub.repositories:
            self._refuse(404, "RepoNotFound")
        elif self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.gated}":
            self._refuse(401 if "Authorization" not in self.headers else 403, "GatedRepo")
        elif len(rest) > 1 and rest[1] not in {"main", self.hub.commit}:
            self._refuse(404, "RevisionNotFound")
        elif is_api:
            self._send_json(self._listing(repository, is_tree="tree" in rest))
        else:
            self._send_file(self.hub.repositories[repository] / "/".join(rest[2:]))

    def _listing(self, repository: str, *, is_tree: bool) -> Any:
        root = self.hub.repositories[repository]
        entries = []
        for path in self.hub.files(repository):
            data, name = path.read_bytes(), path.relative_to(root).as_posix()
            lfs = sha256(b"?" if self.hub.wrong_hash else data)
            is_lfs = name.endswith((".safetensors", ".gguf"))
            oid = git_hash(data)
            if is_tree:
                more = {"lfs": {"oid": lfs, "size": len(data), "pointerSize": 1}} if is_lfs else {}
                entries.append(
                    {"type": "file", "path": name, "size": len(data), "oid": oid, **more}
                )
            else:
                more = (
                    {"lfs": {"sha256": lfs, "size": len(data), "pointerSize": 1}} if is_lfs else {}
                )
                entries.append({"rfilename": name, "size": len(data), "blobId": oid, **more})
        return (
            entries if is_tree else {"id": repository, "sha": self.hub.commit, "siblings": entries}
        )

    def _send_json(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_file(self, path: Path) -> None:
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        data = path.read_bytes()
        is_lfs = path.suffix in {".safetensors", ".gguf"}
        start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{sha256(data) if is_lfs else git_hash(data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if is_lfs and self.hub.breaks > 0:
            self.hub.breaks -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def running_hub(**repositories: Path) -> Iterator[Hub]:
    """Serve these repositories of the owner "us" while the context lasts."""
    hub = Hub({f"us/{name}": folder for name, folder in repositories.items()})
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        close_session()  # its connections are to threads that live on


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """As HF_ENDPOINT and HF_HUB_CACHE would, which the library reads when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
