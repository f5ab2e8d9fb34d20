"""Builds the images with buildah, runs a stream through three containers, and stops them.

python -m benchmarks.images, as root, with buildah, podman and runc: prints sizes and start times.
The base is pulled; where no registry is reached, one like it is made with debootstrap.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from paceline.client import Client
from paceline.engine.compiling import WRITTEN_FOR, this_machine
from paceline.health import ROLES, health
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams

ROOT = Path(__file__).parents[1]
BASE = "docker.io/library/python:3.11-slim-bookworm"
STAND_IN = "localhost/python:3.11-slim-bookworm"
PREFIX = "localhost/paceline-"
PORTS = {"orchestrator": 7970, "target": 7971, "draft": 7972}
LOCKED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges")
BUILD_SECONDS, ACT_SECONDS, READY_SECONDS = 1800, 120, 180
RUNC = """#!/usr/bin/env python3
# runc without the limits that may not be raised in a container of its own.
import json, os, pathlib, sys
at = dict(zip(sys.argv, sys.argv[1:]))
for flag, name in (("--bundle", "config.json"), ("--process", "")):
    if flag in at:
        path = pathlib.Path(at[flag], name)
        config = json.loads(path.read_text())
        config.get("process", config).pop("rlimits", None)
        path.write_text(json.dumps(config))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""
PYTHON = (
    "apt-get update -q=2 && apt-get install -q=2 --no-install-recommends python3 python3-pip "
    "python-is-python3 ca-certificates > /dev/null && apt-get clean && "
    "rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED"
)
LOADED = (
    "from paceline.engine.compile_ahead import SOURCES; "
    "from paceline.engine.compiling import AHEAD, compiled; "
    "print(all(compiled(*one)._name.startswith(f'{AHEAD}/') for one in SOURCES))"
)
CA = Path("/etc/ssl/certs/ca-certificates.crt")


def ran(*command: str, seconds: float = ACT_SECONDS, check: bool = True) -> str:
    """What a command prints. Where it fails: the end of its errors, and this ends."""
    done = subprocess.run(  # noqa: S603 - tools of this machine, with arguments from here
        command, check=False, capture_output=True, text=True, timeout=seconds, cwd=ROOT
    )
    if check and done.returncode:
        sys.exit(f"{' '.join(command[:4])} ...: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout.strip() if done.returncode == 0 else ""


def base_image(folder: Path) -> str:
    """The base of all images: pulled, or made."""
    if ran("podman", "pull", "--quiet", BASE, check=False):
        return BASE
    if not ran("podman", "image", "ls", "--quiet", STAND_IN):
        print(f"{BASE} is not to be had; making one like it")
        _make_base(folder / "rootfs")
    return STAND_IN


def _make_base(root: Path) -> None:
    ran("debootstrap", "--variant=minbase", "bookworm", str(root), seconds=600)
    made = ran("buildah", "from", "scratch")
    ran("buildah", "add", "--quiet", made, str(root), "/", seconds=300)
    ran("buildah", "run", "--isolation=chroot", made, "--", "sh", "-c", PYTHON, seconds=600)
    ran("buildah", "config", "--cmd=python3", made)
    ran("buildah", "commit", "--quiet", "--rm", made, STAND_IN, seconds=300)


def build(image: str, base: str, folder: Path, wheels: str) -> None:
    """Build one target, with this machine's certificates and wheels beside PyPI."""
    conf = folder / "pip.conf"
    links = f"find-links = {wheels}\n" if wheels else ""
    conf.write_text(f"[global]\n{links}retries = 1\n" + f"cert = {CA}\n" * CA.exists())
    shared = [f"{conf}:/etc/pip.conf:ro"]
    shared += [f"{path}:{path}:ro" for path in (str(CA) * CA.exists(), wheels) if path]
    revision = ran("git", "rev-parse", "HEAD", check=False) or "unknown"
    started = time.monotonic()
    ran(
        *("buildah", "bud", "--format=docker", "--layers", "--isolation=chroot"),
        *("--file=deploy/Dockerfile", f"--target={image}", f"--tag={PREFIX}{image}:check"),
        *(f"--build-arg=PYTHON={base}", f"--build-arg=REVISION={revision}"),
        *(f"--volume={one}" for one in shared),
        ".",
        seconds=BUILD_SECONDS,
    )
    print(f"{image:>12}: built in {time.monotonic() - started:.0f} s", flush=True)


def size(image: str) -> int:
    """In bytes, unpacked."""
    found = ran("podman", "image", "inspect", "--format={{.Size}}", image)
    return int(found)


def podman(folder: Path, base: str) -> list[str]:
    """Podman as it works here: with runc as it is, or without limits that may not be set."""
    plain = ["podman", "--runtime=runc"]
    if ran(*plain, "run", "--rm", "--network=none", base, "echo", "works", check=False):
        return plain
    shim = folder / "runc"
    shim.write_text(RUNC)
    shim.chmod(0o755)
    return ["podman", f"--runtime={shim}"]


def flags(role: str) -> list[str]:
    """Of a server, on ports of its own."""
    port = PORTS[role]
    found = [f"--port={port}", f"--health-port={port + 100}", f"--metrics-port={port + 200}"]
    if role == "orchestrator":
        servers = (f"--{one}=127.0.0.1:{PORTS[one]}" for one in ("target", "draft"))
        return [*found, *servers]
    return [*found, f"--model=simulated:step_ms={8 if role == 'target' else 1}"]


def start(tool: Sequence[str], role: str) -> float:
    """Start a container, and wait until its server is ready; how many seconds that took."""
    name, port = f"paceline-check-{role}", PORTS[role] + 100
    started = time.monotonic()
    ran(
        *(*tool, "run", "--detach", "--network=host", f"--name={name}", *LOCKED),
        *(f"--env=PACELINE_{role.upper()}_HEALTH_PORT={port}", f"{PREFIX}{role}:check"),
        *flags(role),
    )
    until = started + READY_SECONDS
    while health(f"127.0.0.1:{port}", ROLES[role][0], 2.0) != "SERVING":
        if time.monotonic() > until:
            sys.exit(f"the {role} is not ready:\n{ran(*tool, 'logs', name, check=False)}")
        time.sleep(0.1)
    return time.monotonic() - started


def inspect(tool: Sequence[str], role: str) -> None:
    """What holds for each container: its user, its root, its health, its labels."""
    name = f"paceline-check-{role}"
    inside = (*tool, "exec", name)
    _expect(ran(*inside, "id", "-u"), "10001", "user")
    written = "touch /written 2> /dev/null; touch /tmp/written && ls /written /tmp/written"
    _expect(ran(*inside, "sh", "-c", f"{written} 2> /dev/null; true"), "/tmp/written", "writes")  # noqa: S108
    ran(*tool, "healthcheck", "run", name)
    labels = json.loads(ran("podman", "image", "inspect", f"{PREFIX}{role}:check"))[0]["Labels"]
    _expect(labels["org.opencontainers.image.title"], f"paceline-{role}", "title")
    has_torch = ran(*inside, "python", "-c", "import torch; print(torch.__version__)", check=False)
    _expect(bool(has_torch), role != "orchestrator", "torch")
    if role != "orchestrator" and this_machine() == WRITTEN_FOR:
        _expect(ran(*inside, "python", "-c", LOADED), "True", "our C, compiled ahead")


def _expect(found: object, expected: object, what: str) -> None:
    if found != expected:
        sys.exit(f"{what}: {found!r}; it must be {expected!r}")


async def stream() -> None:
    """Two streams, with a draft and without, of the same tokens; then one for drain to wait for."""
    async with Client(f"127.0.0.1:{PORTS['orchestrator']}", retries=0) as client:
        async with asyncio.timeout(READY_SECONDS):
            while not any(model.drafts for model in await client.models()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        results = [
            await client.generate(_request(one)).result()
            for one in (Speculation.OFF, Speculation.FORCE)
        ]
    _expect(results[1].token_ids, results[0].token_ids, "tokens with a draft")
    _expect(len(results[0].token_ids), 100, "number of tokens")


def _request(speculation: Speculation) -> GenerateRequest:
    sampling = SamplingParams(temperature=0)
    return GenerateRequest("a stream", sampling=sampling, max_tokens=100, speculation=speculation)


async def drained(tool: Sequence[str]) -> float:
    """Stop the orchestrator under a stream, which ends by itself; the seconds that stop took."""
    async with Client(f"127.0.0.1:{PORTS['orchestrator']}", retries=0) as client:
        running = asyncio.create_task(client.generate(_request(Speculation.OFF)).result())
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await asyncio.to_thread(stop, tool, "orchestrator")
        _expect(len((await running).token_ids), 100, "tokens of a stream while it drained")
    return time.monotonic() - started


def stop(tool: Sequence[str], role: str) -> None:
    """Stop a container; it must exit with 0."""
    name = f"paceline-check-{role}"
    ran(*tool, "stop", "--time=40", name)
    _expect(ran(*tool, "inspect", "--format={{.State.ExitCode}}", name), "0", f"exit of the {role}")


@contextlib.contextmanager
def removed_at_the_end(tool: Sequence[str]) -> Iterator[None]:
    """No container is left."""
    names = [f"paceline-check-{role}" for role in PORTS]
    ran(*tool, "rm", "--force", "--ignore", *names)
    try:
        yield
    finally:
        ran(*tool, "rm", "--force", "--ignore", *names)


def main() -> None:
    """Build, run, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help=f"image to build upon; unless given: {BASE}, or one like it")
    parser.add_argument("--wheels", default="", help="folder of wheels to install from beside PyPI")
    options = parser.parse_args()
    missing = [one for one in ("buildah", "podman", "runc") if not shutil.which(one)]
    if missing or os.geteuid():
        sys.exit(f"needs root, and of Debian's packages: {' '.join(missing or ['nothing more'])}")
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        folder = Path(name)
        base = options.base or base_image(folder)
        for image in PORTS:
            build(image, base, folder, options.wheels)
        check(podman(folder, base), base)


def check(tool: Sequence[str], base: str) -> None:
    """Run the three images, and print what was seen."""
    with removed_at_the_end(tool):
        own = size(base)
        for role in ("target", "draft", "orchestrator"):
            seconds, whole = start(tool, role), size(f"{PREFIX}{role}:check")
            print(
                f"{role:>12}: {whole / 1e6:.0f} MB, {(whole - own) / 1e6:.0f} above its base; "
                f"ready after {seconds:.1f} s",
                flush=True,
            )
            inspect(tool, role)
        asyncio.run(stream())
        print("a stream has the same tokens with the draft and without")
        print(f"orchestrator stopped under a stream: drained in {asyncio.run(drained(tool)):.1f} s")
        for role in ("draft", "target"):
            stop(tool, role)
        print("all exited with 0; user 10001, root read-only, HEALTHCHECK passes")


if __name__ == "__main__":
    main()
