"""What generate and chat can both be told."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from paceline.protocol.generation import GenerateRequest, Prompt, Speculation
from paceline.protocol.limits import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from paceline.protocol.sampling import MAX_TEMPERATURE, SamplingParams
from paceline.rpc.wire_ranges import UINT32, UINT64
from paceline_tools.cli.flags import MOST_TOKENS, ORCHESTRATOR, Finite, OrchestratorAddress, Text

StopString = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]
_NEUTRAL = SamplingParams()


class RequestOptions(BaseModel):
    """Flags of an output, but for its prompt."""

    address: OrchestratorAddress = ORCHESTRATOR
    model: Text = Field("", description="Model to ask for, where more than one is served.")
    max_tokens: int | None = Field(
        None, ge=1, le=MOST_TOKENS, description="Most tokens to generate."
    )
    temperature: float = Field(
        _NEUTRAL.temperature,
        ge=0,
        le=MAX_TEMPERATURE,
        description="Divides the logits; 0 takes the best token.",
    )
    top_p: Finite = Field(
        _NEUTRAL.top_p, description="Keeps the best tokens that reach this probability."
    )
    top_k: int = Field(
        _NEUTRAL.top_k,
        ge=0,
        le=UINT32[-1],
        description="Keeps the best tokens, so many; 0 keeps all.",
    )
    seed: int | None = Field(
        None, ge=0, le=UINT64[-1], description="Seed of the noise; one is drawn if not set."
    )
    stop: list[StopString] = Field(
        [],
        max_length=MAX_STOP_STRINGS,
        description="String that ends the output, taken as it is; may be given again.",
    )
    speculation: Literal["off", "auto", "force"] = Field(
        "auto", description="off: the target alone; force: always wait for the draft."
    )

    def asking(self, prompt: Prompt, n: int = 1, logprobs: int | None = None) -> GenerateRequest:
        """What the flags ask for."""
        return GenerateRequest(
            prompt=prompt,
            model=self.model,
            sampling=SamplingParams(
                temperature=self.temperature, top_p=self.top_p, top_k=self.top_k
            ),
            seed=self.seed,
            max_tokens=self.max_tokens,
            n=n,
            stop=tuple(self.stop),
            logprobs=logprobs,
            speculation=Speculation(self.speculation),
        )
