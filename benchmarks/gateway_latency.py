"""What the gateway adds to latency: the same prompts, in turn through smg and by our own client.

Run it against `paceline up --gateway --target simulated:step_ms=10 --draft lookup=ngram`, alone:
python -m benchmarks.gateway_latency --orchestrator HOST:PORT --gateway http://HOST:PORT/v1 MODEL
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import openai

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import SamplingParams

PROMPT = "Name three rivers."
TIMES = 50


async def main() -> None:
    """Print medians of the time to the first token, and of whole outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--orchestrator", required=True)
    parser.add_argument("--gateway", required=True)
    options = parser.parse_args()
    async with (
        Client(options.orchestrator) as own,
        openai.AsyncOpenAI(base_url=options.gateway, api_key="none") as client,
    ):
        for tokens in (1, 64):
            await compare(own, client, options.model, tokens)


async def compare(own: Client, client: openai.AsyncOpenAI, model: str, tokens: int) -> None:
    """One after the other, TIMES times, and the medians in ms."""
    request = GenerateRequest(PROMPT, sampling=SamplingParams(temperature=0.0), max_tokens=tokens)

    async def direct() -> None:
        await own.generate(request).result()

    async def through() -> None:
        await client.completions.create(
            model=model, prompt=PROMPT, temperature=0.0, max_tokens=tokens
        )

    found: dict[str, list[float]] = {"direct": [], "gateway": []}
    for _ in range(TIMES):
        found["direct"].append(await milliseconds(direct))
        found["gateway"].append(await milliseconds(through))
    medians = {name: statistics.median(times) for name, times in found.items()}
    print(
        f"{tokens} tokens: {medians['direct']:.1f} ms, by the gateway {medians['gateway']:.1f} ms"
    )


async def milliseconds(ask: Callable[[], Awaitable[None]]) -> float:
    """That it takes."""
    started = time.perf_counter()
    await ask()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(main())
