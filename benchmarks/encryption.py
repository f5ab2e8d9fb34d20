"""What mutual TLS on every link costs: 64 streams between simulated servers, with it and without.

python -m benchmarks.encryption: two deployments stand side by side on TCP ports of this machine;
prints the median, the range and each run of tokens per second, and the ratio of the medians.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trustme

from benchmarks.simulated import ROOM
from paceline.client import Client
from paceline.errors import Unavailable
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import SamplingParams
from paceline_tools.local_servers import running
from paceline_tools.server_commands import UNWATCHED

TARGET = "simulated:step_ms=25,token_ms=0.05"
DRAFT = "simulated:step_ms=2.5,acceptance=0.8"
NAME = "localhost"


def certificates(folder: Path) -> dict[str, Path]:
    """An authority, and one certificate that all show."""
    authority = trustme.CA()
    issued = authority.issue_cert(NAME)
    paths = {name: folder / f"{name}.pem" for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(str(paths["ca"]))
    issued.private_key_pem.write_to_path(str(paths["key"]))
    issued.cert_chain_pems[0].write_to_path(str(paths["certificate"]))
    return paths


def commands(port: int, shown: dict[str, Path]) -> dict[str, list[str]]:
    """Of three servers whose ports follow `port`. shown: empty for plaintext."""
    mutual = [f"--tls-{name}={shown[name]}" for name in ("certificate", "key") if shown]
    callers = [f"--tls-client-ca={shown['ca']}"] if shown else []
    servers = [f"--tls-server-ca={shown['ca']}"] if shown else []
    model = [*UNWATCHED, *ROOM, *mutual, *callers]
    return {
        "target": ["-m", "target_server", f"--model={TARGET}", f"--port={port + 1}", *model],
        "draft": ["-m", "draft_server", f"--model={DRAFT}", f"--port={port + 2}", *model],
        "orchestrator": [
            *("-m", "orchestrator", f"--port={port}", f"--target={NAME}:{port + 1}"),
            *(f"--draft={NAME}:{port + 2}", *UNWATCHED, *mutual, *callers, *servers),
        ],
    }


@contextlib.asynccontextmanager
async def deployed(port: int, shown: dict[str, Path]) -> AsyncIterator[Client]:
    """A client of three processes that found each other."""
    scheme = "grpcs" if shown else "grpc"
    files: dict[str, Any] = dict(shown)
    async with Client(f"{scheme}://{NAME}:{port}", **files) as client:

        async def ready() -> None:
            while True:
                with contextlib.suppress(Unavailable):
                    if any(model.drafts for model in await client.models()):
                        return
                await asyncio.sleep(0.1)

        async with running(commands(port, shown), ready):
            yield client


async def throughput(client: Client, streams: int, tokens: int) -> float:
    """Tokens per second of so many outputs at once."""
    greedy = SamplingParams(temperature=0)
    started = time.perf_counter()
    await asyncio.gather(
        *(
            client.generate(
                GenerateRequest(str(index), sampling=greedy, max_tokens=tokens, ignore_eos=True)
            ).result()
            for index in range(streams)
        )
    )
    return streams * tokens / (time.perf_counter() - started)


async def main() -> None:
    """Run both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--port", type=int, default=7960)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"plaintext": [], "mutual TLS": []}
    with tempfile.TemporaryDirectory(prefix="paceline-") as folder:
        shown = certificates(Path(folder))
        async with deployed(options.port, {}) as plain, deployed(options.port + 5, shown) as locked:
            for client in (plain, locked):
                await throughput(client, options.streams, options.tokens)  # to be warm
            for _ in range(options.times):
                for name, client in zip(found, (plain, locked), strict=True):
                    found[name].append(await throughput(client, options.streams, options.tokens))
    for name, runs in found.items():
        whole = f"median {statistics.median(runs):.0f}, {min(runs):.0f} to {max(runs):.0f} tokens/s"
        print(f"{name:>10}: {whole} ({' '.join(f'{one:.0f}' for one in runs)})")
    plaintext, mutual = map(statistics.median, found.values())
    print(f"mutual TLS / plaintext, {options.streams} streams, medians: {mutual / plaintext:.3f}")


if __name__ == "__main__":
    asyncio.run(main())
