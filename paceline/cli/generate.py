"""paceline generate: one output, streamed."""

import asyncio
import json
import sys
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_settings import CliPositionalArg
from rich.console import Console

from paceline.cli.show import as_json, legend, show_delta, statistics
from paceline.client import Client, Generation
from paceline.errors import InvalidArgument
from paceline.generation import ChatMessage, Finished, GenerateRequest, Prompt, Speculation
from paceline.sampling import SamplingParams


class Generate(BaseModel):
    """Stream one output. On a terminal the tokens' colours say where they came from."""

    prompt: CliPositionalArg[str] = Field("-", description="The prompt; - reads standard input.")
    address: str = Field("localhost:7070", description="The orchestrator: host:port or unix:/path.")
    model: str = Field("", description="Model to ask for, where more than one is served.")
    max_tokens: int | None = Field(None, description="Most tokens to generate.")
    temperature: float = Field(1.0, description="Divides the logits; 0 takes the best token.")
    top_p: float = Field(1.0, description="Keeps the best tokens that reach this probability.")
    top_k: int = Field(0, ge=0, description="Keeps the best tokens, so many; 0 keeps all.")
    seed: int | None = Field(None, ge=0, description="Seed of the noise; one is drawn if not set.")
    speculation: Literal["off", "auto", "force"] = Field(
        "auto", description="off: the target alone; force: always wait for the draft."
    )
    raw: bool = Field(False, description="Take the prompt as it is, without the chat template.")
    json_: bool = Field(False, alias="json", description="Print one JSON object at the end.")

    def cli_cmd(self) -> None:
        """Run the command."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with Client(self.address) as client:
            generation = client.generate(self.request())
            if self.json_:
                print(json.dumps(as_json(await generation.result())))
            else:
                await _stream(generation)

    def request(self) -> GenerateRequest:
        """What the flags ask for."""
        text = sys.stdin.read() if self.prompt == "-" else self.prompt
        if not text.strip():
            raise InvalidArgument.of("the prompt", text, "not empty")
        prompt: Prompt = text if self.raw else (ChatMessage("user", text),)
        return GenerateRequest(
            prompt=prompt,
            model=self.model,
            sampling=SamplingParams(
                temperature=self.temperature, top_p=self.top_p, top_k=self.top_k
            ),
            seed=self.seed,
            max_tokens=self.max_tokens,
            speculation=Speculation(self.speculation),
        )


async def _stream(generation: Generation) -> None:
    console = Console()
    async for delta in generation:
        show_delta(console, delta)
    console.print()
    if console.is_terminal and generation.finished is not None:
        console.print(legend(), _summary(generation.finished), highlight=False)


def _summary(finished: Finished) -> str:
    found = statistics(finished)
    return (
        f"[dim]{finished.usage.output_tokens} tokens, {found['tokens_per_s']:.1f}/s, "
        f"first after {found['ttft_ms']:.0f} ms, {found['accepted']} of {found['verified']} "
        f"draft tokens accepted[/]"
    )
