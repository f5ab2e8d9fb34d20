"""What generate and chat can both be told."""

from typing import Literal

from pydantic import BaseModel, Field

from paceline.generation import GenerateRequest, Prompt, Speculation
from paceline.sampling import SamplingParams


class Asking(BaseModel):
    """Flags of an output, but for its prompt."""

    address: str = Field("localhost:7070", description="The orchestrator: host:port or unix:/path.")
    model: str = Field("", description="Model to ask for, where more than one is served.")
    max_tokens: int | None = Field(None, description="Most tokens to generate.")
    temperature: float = Field(1.0, description="Divides the logits; 0 takes the best token.")
    top_p: float = Field(1.0, description="Keeps the best tokens that reach this probability.")
    top_k: int = Field(0, ge=0, description="Keeps the best tokens, so many; 0 keeps all.")
    seed: int | None = Field(None, ge=0, description="Seed of the noise; one is drawn if not set.")
    stop: list[str] = Field([], description="String that ends the output; may be given again.")
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
