"""paceline generate: one output, streamed."""

import asyncio
import dataclasses
import json

from pydantic import Field
from pydantic_settings import CliPositionalArg

from paceline.client import Generation
from paceline.errors import InvalidArgument, PacelineError
from paceline.protocol.generation import DEFAULT_CHOICES, ChatMessage, GenerateRequest, Prompt
from paceline.protocol.limits import MAX_CHOICES, MAX_LOGPROBS
from paceline_tools.cli.asked import asking
from paceline_tools.cli.flags import MOST_TOKENS, Text
from paceline_tools.cli.request_options import RequestOptions
from paceline_tools.cli.show import Streamed, as_json, as_json_so_far, legend, summary
from paceline_tools.lost import tell_lost
from paceline_tools.terminal import BadInput, console, read_input


class Generate(RequestOptions):
    """Stream one output. On a terminal the tokens' colours say where they came from."""

    prompt: CliPositionalArg[Text] = Field("-", description="The prompt; - reads standard input.")
    n: int = Field(
        DEFAULT_CHOICES,
        ge=1,
        le=MAX_CHOICES,
        description="Outputs to generate, each with its own seed.",
    )
    max_tokens: int | None = Field(
        None,
        ge=0,
        le=MOST_TOKENS,
        description="Most tokens to generate; 0 only scores the prompt, with --prompt-logprobs. "
        "Unless given: as many as the server is set to.",
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="With --json: logprobs, and of so many best tokens. Unless given: none.",
    )
    prompt_logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="With --json: the prompt's logprobs, and of so many best tokens. Unless given: "
        "none.",
    )
    raw: bool = Field(False, description="Take the prompt as it is, without the chat template.")
    json_: bool = Field(False, alias="json", description="Print one JSON object at the end.")

    def cli_cmd(self) -> None:
        """Run the command."""
        if self.max_tokens == 0 and (self.prompt_logprobs is None or not self.json_):
            limit = "at least 1 without --prompt-logprobs and --json"
            raise BadInput(f"--max-tokens is 0; it must be {limit}")
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with asking(self.address, timeout=self.timeout, **self.access()) as client:
            generation = client.generate(self.request(), on_lost=tell_lost)
            if self.json_:
                await _print_json(generation)
            elif self.n > 1:
                await _show_choices(generation)
            else:
                await _stream(generation)

    def request(self) -> GenerateRequest:
        """What the flags ask for."""
        text = read_input() if self.prompt == "-" else self.prompt
        if not text.strip():
            raise InvalidArgument.of("PROMPT", text, "a text that is not empty")
        prompt: Prompt = text if self.raw else (ChatMessage("user", text),)
        asked = self.asking(prompt, self.n, self.logprobs)
        return dataclasses.replace(asked, prompt_logprobs=self.prompt_logprobs)


async def _print_json(generation: Generation) -> None:
    """One object at the end; of what fails or is interrupted, with what came until then."""
    try:
        result = await generation.result()
    except (PacelineError, asyncio.CancelledError) as error:
        if (started := generation.started) is not None:
            why = str(error) or "interrupted"
            print(json.dumps(as_json_so_far(started, generation, why)))
        raise
    print(json.dumps(as_json(result)))


async def _stream(generation: Generation) -> None:
    """Show it as it comes; into a file or pipe goes the model's text and nothing else."""
    output = console()
    shown = Streamed(output)
    try:
        async for delta in generation:
            shown.show(delta)
    finally:
        if output.is_terminal and generation.started is not None:
            output.print()
    if output.is_terminal and generation.finished is not None:
        output.print(legend(), summary(generation.finished), highlight=False)


async def _show_choices(generation: Generation) -> None:
    """One after another, once all are there, or what came of them where it fails."""
    try:
        await generation.result()
    finally:
        if generation.started is not None:
            _show_so_far(generation)


def _show_so_far(generation: Generation) -> None:
    output = console()
    for index, (deltas, _) in enumerate(generation.so_far):
        if output.is_terminal:
            output.rule(f"[dim]{index}[/]", align="left")
        shown = Streamed(output)
        for delta in deltas:
            shown.show(delta)
        output.print()
