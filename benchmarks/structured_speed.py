"""What a constraint does to speed: free text and JSON of a schema, in turn, by our own client.

Run it against `paceline up --target smollm2-135m --draft lookup=ngram`, alone:
python -m benchmarks.structured_speed HOST:PORT
"""

import argparse
import asyncio
import statistics
import time
from itertools import product

from paceline.client import Client
from paceline.protocol.constraint import Constraint, json_schema
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling

PROMPT = "People as JSON, with name, age and city: "
TOKENS = 96
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "city": {"enum": ["Oslo", "Lima", "Accra"]},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
PEOPLE = json_schema({"type": "array", "items": PERSON, "minItems": 100})
KINDS: dict[str, Constraint | None] = {"free": None, "schema": PEOPLE}


async def main() -> None:
    """Print medians and ranges of tokens per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("orchestrator")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    ways = list(product(KINDS, (Speculation.OFF, Speculation.FORCE)))
    found: dict[tuple[str, Speculation], list[float]] = {way: [] for way in ways}
    async with Client(options.orchestrator) as client:
        for turn in range(options.times + 1):
            for way in ways:
                speed = await tokens_per_second(client, *way)
                if turn:  # the first compiles the grammar
                    found[way].append(speed)
    for (kind, speculation), speeds in found.items():
        print(
            f"{kind}, {speculation.value}: median {statistics.median(speeds):.1f} tokens/s, "
            f"{min(speeds):.1f} to {max(speeds):.1f}"
        )


async def tokens_per_second(client: Client, kind: str, speculation: Speculation) -> float:
    """Of an output of TOKENS, from its first token to its last."""
    request = GenerateRequest(
        PROMPT,
        sampling=Sampling(temperature=0.0, constraint=KINDS[kind]),
        max_tokens=TOKENS,
        ignore_eos=True,
        speculation=speculation,
    )
    count, first = 0, 0.0
    async for delta in client.generate(request):
        if not first:
            first, count = time.perf_counter(), -len(delta.tokens)
        count += len(delta.tokens)
    return count / (time.perf_counter() - first)


if __name__ == "__main__":
    asyncio.run(main())
