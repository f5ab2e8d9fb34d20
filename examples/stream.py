"""Stream an answer, and say what speculation did for it."""

import asyncio
import sys

from paceline.client import Client


async def main(address: str) -> None:
    messages = [{"role": "user", "content": "Write a function that reverses a string."}]
    async with Client(address) as client:
        generation = client.generate(
            messages, max_tokens=64, temperature=0.7, top_p=0.95, timeout=120
        )
        async for delta in generation:
            print(delta.text, end="", flush=True)
        print()
    if generation.finished is not None:
        usage = generation.finished.usage
        print(f"{usage.speculated_tokens} of {usage.output_tokens} tokens were drafted ahead")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:7070"))
