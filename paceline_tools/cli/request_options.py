"""What generate and chat can both be told."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from paceline.protocol.generation import GenerateRequest, Prompt, Speculation
from paceline.protocol.limits import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from paceline.protocol.sampling import MAX_TEMPERATURE, Sampling
from paceline.rpc.wire_ranges import UINT32, UINT64
from paceline_tools.cli.flags import MOST_TOKENS, ORCHESTRATOR, Finite, OrchestratorAddress, Text

StopString = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class RequestOptions(BaseModel):
    """Flags of an output, but for its prompt."""

    address: OrchestratorAddress = ORCHESTRATOR
    model: Text = Field("", description="Model to ask for. Unless given: the one that is served.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=MOST_TOKENS,
        description="Most tokens to generate. Unless given: as many as the server is set to.",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=MAX_TEMPERATURE,
        description="Divides the logits; 0 takes the best token. Unless given, as the model's "
        "generation_config.json says, else 1.",
    )
    top_p: Finite | None = Field(
        None,
        gt=0,
        le=1,
        description="Keeps the best tokens that reach this probability; 1 keeps all. Unless given, "
        "likewise, else 1.",
    )
    top_k: int | None = Field(
        None,
        ge=0,
        le=UINT32[-1],
        description="Keeps the best tokens, so many; 0 keeps all. Unless given, likewise, else 0.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=UINT64[-1],
        description="Seed of the noise. Unless given: one is drawn, and told with --json.",
    )
    stop: list[StopString] = Field(
        [],
        max_length=MAX_STOP_STRINGS,
        description="String that ends the output, taken as it is; may be given again. Unless "
        "given: only the model's own end does.",
    )
    speculation: Literal["off", "auto", "force"] = Field(
        "auto", description="off: the target alone; force: always wait for the draft."
    )

    def asking(self, prompt: Prompt, n: int = 1, logprobs: int | None = None) -> GenerateRequest:
        """What the flags ask for."""
        return GenerateRequest(
            prompt=prompt,
            model=self.model,
            sampling=Sampling(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k),
            seed=self.seed,
            max_tokens=self.max_tokens,
            n=n,
            stop=tuple(self.stop),
            logprobs=logprobs,
            speculation=Speculation(self.speculation),
        )
