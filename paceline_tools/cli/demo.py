"""paceline demo: the real pair, with speculation off and on, side by side."""

import asyncio

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from orchestrator.round_settings import DRAFT_LENGTH, MOST_DRAFT_LENGTH
from paceline.catalog import CATALOG, DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.client import Client, Result
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.settings import ORCHESTRATOR_PORT
from paceline_tools.bench.variants import SEED
from paceline_tools.cli.flags import MOST_TOKENS
from paceline_tools.cli.pull import pull
from paceline_tools.cli.show import Streamed, legend, statistics
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_servers import LocalPlan, check_addresses, up_running
from paceline_tools.start_checks import check_home
from paceline_tools.terminal import console

PROMPTS = {
    "code, greedy": (
        "Write a Python class for a binary search tree with insert, search and in-order traversal.",
        0.0,
    ),
    "explanation, T=0.8": ("Explain in a few sentences how a hash table resolves collisions.", 0.8),
}


class Demo(BaseModel):
    """Answer two prompts with speculation off and on: fetches the pair, and starts it."""

    target: str = Field(DEFAULT_TARGET, description="Target model, as for up.")
    draft: str = Field(DEFAULT_DRAFT, description="Draft model, likewise.")
    draft_length: int = Field(
        DRAFT_LENGTH, ge=1, le=MOST_DRAFT_LENGTH, description="Draft tokens verified in a round."
    )
    max_tokens: int = Field(128, ge=1, le=MOST_TOKENS, description="Most tokens of each answer.")
    port: int = Field(ORCHESTRATOR_PORT, ge=1, le=65000, description="Port of the orchestrator.")

    def cli_cmd(self) -> None:
        """Run the command."""
        output = console()
        check_home()
        check_addresses(self._up, LocalPlan.of(self._up))  # before what takes long
        for model in (self.target, self.draft):
            if model in CATALOG:
                pull(model, output)
        asyncio.run(self._run(output))

    @property
    def _up(self) -> UpOptions:
        return UpOptions(
            target=[self.target],
            draft=[self.draft],
            draft_length=self.draft_length,
            port=self.port,
        )

    async def _run(self, console: Console) -> None:
        up = self._up
        status = console.status("starting draft, target and orchestrator")
        status.start()
        async with (
            up_running(up),
            Client(f"127.0.0.1:{up.port}") as client,
        ):
            status.stop()
            columns = {}
            for name, (prompt, temperature) in PROMPTS.items():
                console.rule(name)
                console.print(f"[dim]{prompt}[/]\n", highlight=False)
                results = [
                    await self._answer(client, console, prompt, temperature, speculation)
                    for speculation in (Speculation.OFF, Speculation.AUTO)
                ]
                columns[name] = _compare(*results)
            console.print(comparison(columns))

    async def _answer(
        self,
        client: Client,
        console: Console,
        prompt: str,
        temperature: float,
        speculation: Speculation,
    ) -> Result:
        request = GenerateRequest(
            prompt=(ChatMessage("user", prompt),),
            sampling=SamplingParams(temperature=temperature),
            seed=SEED,
            max_tokens=self.max_tokens,
            speculation=speculation,
        )
        console.print(f"[bold]speculation {speculation.value}[/]", legend(), highlight=False)
        generation = client.generate(request)
        shown = Streamed(console)
        async for delta in generation:
            shown.show(delta)
        console.print("\n")
        return await generation.result()


MEASURES = (
    "off, tokens/s",
    "on, tokens/s",
    "speed-up",
    "draft tokens accepted",
    "accepted in a round",
    "first token, off / on",
    "same tokens",
)


def comparison(columns: dict[str, tuple[str, ...]]) -> Table:
    """A row for each of MEASURES, a column for each prompt: it fits 80 characters."""
    table = Table(title="The target alone, and with its draft")
    table.add_column("speculation")
    for name in columns:
        table.add_column(name, justify="right")
    for measure, *values in zip(MEASURES, *columns.values(), strict=True):
        table.add_row(measure, *values)
    return table


def _compare(off: Result, on: Result) -> tuple[str, ...]:
    off_found, on_found = statistics(off.finished), statistics(on.finished)
    same = off.token_ids == on.token_ids
    return (
        f"{off_found['tokens_per_s']:.1f}",
        f"{on_found['tokens_per_s']:.1f}",
        f"{on_found['tokens_per_s'] / max(off_found['tokens_per_s'], 1e-9):.2f}x",
        f"{on_found['acceptance_rate']:.0%}",
        f"{on_found['mean_accepted']:.1f} of {len(on_found['verified_by_position'])}",
        f"{off_found['ttft_ms']:.0f} / {on_found['ttft_ms']:.0f} ms",
        "[green]yes, all[/]" if same else "[red]NO[/]",
    )
