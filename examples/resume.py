"""Keep what it takes to go on with a stream in another program: ids and the seed, never text.

The client resumes by itself when a connection breaks; this is for when the client dies.
"""

import asyncio
import json
import sys

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest

REQUEST = GenerateRequest("Once upon a time", seed=7, max_tokens=24)


async def main(address: str) -> None:
    async with Client(address) as client:
        whole = await client.generate(REQUEST).result()

        generation = client.generate(REQUEST)
        tokens: list[int] = []
        async for delta in generation:
            tokens += [token.id for token in delta.tokens]
            if len(tokens) >= 8:
                break  # as if this program had died here
        if generation.started is None:
            raise SystemExit("nothing came")
        kept = json.dumps({"prompt": generation.started.prompt_token_ids, "tokens": tokens})

        known = json.loads(kept)
        rest = await client.generate(
            GenerateRequest(
                prompt=tuple(known["prompt"]),
                seed=generation.started.seed,
                max_tokens=generation.started.max_tokens,
                sampling=generation.started.sampling or REQUEST.sampling,
                output_token_ids=tuple(known["tokens"]),
                fingerprint=generation.started.fingerprint,
            )
        ).result()
    resumed = (*known["tokens"], *rest.token_ids)
    print(f"{len(known['tokens'])} tokens kept, {len(rest.token_ids)} came later:")
    print("the same" if resumed == whole.token_ids else "NOT THE SAME")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:7070"))
