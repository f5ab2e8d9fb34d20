"""What generate gives, as a gateway's messages. Pure.

The gateway takes text of a stream from its chunks alone, and of a whole answer from the Complete
alone: a Complete has all of the output, and always comes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from smg_grpc_proto.generated import vllm_engine_pb2 as vllm

from paceline.protocol.generation import Delta, Finished, GenerateEvent, Started, Token
from paceline.protocol.verdict import PromptLogprobs, TokenLogprobs


@dataclass(slots=True)
class _Choice:
    """What came of one choice so far."""

    tokens: list[Token] = field(default_factory=list)
    began: bool = False


class Responses:
    """The messages of one call."""

    def __init__(self, *, stream: bool) -> None:
        """stream: whether deltas become chunks."""
        self._stream = stream
        self._choices: dict[int, _Choice] = {}
        self._prompt: tuple[int, ...] = ()
        self._prompt_logprobs: list[TokenLogprobs] = []

    def of(self, event: GenerateEvent) -> Iterator[vllm.GenerateResponse]:
        """What to send for an event, if anything."""
        match event:
            case Started():
                self._prompt = event.prompt_token_ids
            case PromptLogprobs():
                self._prompt_logprobs += event.tokens
            case Delta():
                choice = self._choices.setdefault(event.choice_index, _Choice())
                choice.tokens += event.tokens
                if self._stream:
                    yield vllm.GenerateResponse(chunk=self._chunk(event, choice))
            case Finished():
                yield vllm.GenerateResponse(complete=self._complete(event))

    def _chunk(self, delta: Delta, choice: _Choice) -> vllm.GenerateStreamChunk:
        first, choice.began = not choice.began, True
        return vllm.GenerateStreamChunk(
            token_ids=[token.id for token in delta.tokens],
            prompt_tokens=len(self._prompt),
            completion_tokens=len(choice.tokens),
            output_logprobs=_output_logprobs(delta.tokens),
            input_logprobs=self._input_logprobs() if first else None,
            index=delta.choice_index,
        )

    def _complete(self, finished: Finished) -> vllm.GenerateComplete:
        tokens = self._choices.get(finished.choice_index, _Choice()).tokens
        usage, statistics = finished.usage, finished.statistics
        return vllm.GenerateComplete(
            output_ids=[token.id for token in tokens],
            finish_reason=finished.finish_reason.value,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            output_logprobs=_output_logprobs(tokens),
            input_logprobs=self._input_logprobs(),
            index=finished.choice_index,
            matched_token_id=finished.stop_token_id,
            matched_stop_str=finished.stop_string,
            spec_accepted_tokens=statistics.accepted,
            spec_draft_tokens=statistics.verified,
        )

    def _input_logprobs(self) -> vllm.InputLogProbs | None:
        """Of all of the prompt but its first token, which follows nothing; None if not asked."""
        if not self._prompt_logprobs:
            return None
        values = [vllm.InputTokenLogProb(value=one.logprob) for one in self._prompt_logprobs]
        return vllm.InputLogProbs(
            token_logprobs=[vllm.InputTokenLogProb(), *values],
            token_ids=self._prompt,
            top_logprobs=[vllm.TopLogProbs(), *map(_top, self._prompt_logprobs)],
        )


def _output_logprobs(tokens: Sequence[Token]) -> vllm.OutputLogProbs | None:
    """None where they were not asked for."""
    found = [token.logprobs for token in tokens if token.logprobs is not None]
    if not found:
        return None
    return vllm.OutputLogProbs(
        token_logprobs=[one.logprob for one in found],
        token_ids=[token.id for token in tokens],
        top_logprobs=map(_top, found),
    )


def _top(one: TokenLogprobs) -> vllm.TopLogProbs:
    return vllm.TopLogProbs(
        values=[best.logprob for best in one.top], token_ids=[best.token_id for best in one.top]
    )
