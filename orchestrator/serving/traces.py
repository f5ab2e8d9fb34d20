"""What the spans of a request say: OpenTelemetry's GenAI conventions where they fit, no text.

Names: https://opentelemetry.io/docs/specs/semconv/gen-ai. Those of speculation begin with
paceline. Where nobody records, nothing of this is done.
"""

import contextlib
from collections.abc import Iterator, Sequence

from orchestrator.serving.output import OutputStream
from orchestrator.serving.stream_statistics import StreamStatistics
from paceline.best_effort import best_effort
from paceline.protocol.generation import (
    Chat,
    ChatMessage,
    GenerateRequest,
    Speculation,
    Statistics,
)
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.verdict import TimedVerdict, Verdict
from paceline.tracing.span import FIRST_STEPS, TraceSpan, Value, current, within


def describe_request(
    request: GenerateRequest, request_id: str, model: str, choices: Sequence[OutputStream]
) -> None:
    """Say on the call's span what was asked for, once it is admitted."""
    span = current()
    if not span.recording:
        return
    with best_effort("traces"):
        opening = choices[0].opening
        operation = _operation(request)
        span.rename(f"{operation} {model}")
        span.set(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "paceline",
                "gen_ai.request.model": request.model or model,
                "gen_ai.response.model": model,
                "gen_ai.response.id": request_id,
                "gen_ai.request.max_tokens": opening.max_tokens,
                "gen_ai.request.seed": str(opening.seed),  # above what an attribute's int holds
                "gen_ai.request.choice.count": len(choices),
                "gen_ai.usage.input_tokens": len(opening.prompt_token_ids),
                "paceline.resumed_tokens": len(opening.output_token_ids),
                **_sampling(opening.sampling),
            }
        )
        span.event("admitted")


def _operation(request: GenerateRequest) -> str:
    prompt = request.prompt
    if isinstance(prompt, Chat):
        return "chat"
    listed = not isinstance(prompt, str) and len(prompt) > 0
    return "chat" if listed and isinstance(prompt[0], ChatMessage | dict) else "text_completion"


def _sampling(sampling: SamplingParams) -> dict[str, Value]:
    return {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
        "gen_ai.request.presence_penalty": sampling.presence_penalty,
    }


@contextlib.contextmanager
def stream_span(stream: OutputStream, speculation: Speculation) -> Iterator[None]:
    """The span of one choice, in which its sessions are; its first steps are spans in it."""
    with within("stream") as span:
        if not span.recording:
            yield
            return
        stream.statistics = TracedStatistics(stream.statistics, span)
        try:
            yield
        finally:
            with best_effort("traces"):
                span.set(_outcome(stream, speculation))


def describe_outputs(choices: Sequence[OutputStream]) -> None:
    """Say on the call's span how its choices ended."""
    span = current()
    if not span.recording:
        return
    with best_effort("traces"):
        first = choices[0].statistics.ttft_seconds
        reasons = [one.finish_reason.value for one in choices if one.ended]
        span.set(
            {
                "gen_ai.usage.output_tokens": sum(one.usage.output_tokens for one in choices),
                "gen_ai.usage.cache_read.input_tokens": choices[0].usage.cached_tokens,
                **({"gen_ai.response.finish_reasons": reasons} if reasons else {}),
                **({} if first is None else {"gen_ai.response.time_to_first_chunk": first}),
            }
        )


def _outcome(stream: OutputStream, speculation: Speculation) -> dict[str, Value]:
    """What the log line "stream finished" says, too."""
    statistics = stream.statistics.result()
    verified = statistics.verified
    return {
        "paceline.speculation": speculation.value,
        "paceline.output_tokens": stream.usage.output_tokens,
        "paceline.rounds": statistics.rounds,
        "paceline.target_only_steps": statistics.target_only_steps,
        "paceline.drafted": statistics.drafted,
        "paceline.verified": verified,
        "paceline.accepted": statistics.accepted,
        **({"paceline.acceptance_rate": statistics.accepted / verified} if verified else {}),
        **_branches(statistics),
        "paceline.queue_seconds": stream.statistics.queue_seconds or 0.0,
        "paceline.decode_seconds": statistics.decode_seconds,
        "paceline.overhead_seconds": statistics.overhead_seconds,
        **({"paceline.finish_reason": stream.finish_reason.value} if stream.ended else {}),
    }


def _branches(counted: Verdict | Statistics) -> dict[str, Value]:
    """Draft tokens of branches, where there were some."""
    if not counted.branch_verified:
        return {}
    return {
        "paceline.branch_verified": counted.branch_verified,
        "paceline.branch_accepted": counted.branch_accepted,
    }


class TracedStatistics(StreamStatistics):
    """Those of a stream that is traced: its first steps are spans, each with its wait."""

    def __init__(self, so_far: StreamStatistics, span: TraceSpan) -> None:
        """Take over what `so_far` has counted."""
        vars(self).update(vars(so_far))
        self._span = span
        self._steps = 0

    def observe(self, timed: TimedVerdict, draft_wait: float) -> None:
        """See StreamStatistics."""
        if self._steps < FIRST_STEPS:
            with best_effort("traces"):
                self._note(timed, draft_wait)
        super().observe(timed, draft_wait)

    def _note(self, timed: TimedVerdict, draft_wait: float) -> None:
        verdict = timed.verdict
        began = self.step(timed, draft_wait).began_seconds
        if draft_wait > 0:
            counts = {"paceline.draft_tokens": verdict.verified}
            self._span.step("wait", began - draft_wait, began, counts)
        name = "verify" if verdict.verified else "decode"
        self._span.step(
            name if self._steps else "prefill",
            began,
            timed.arrived_seconds,
            {
                "paceline.verified": verdict.verified,
                "paceline.accepted": verdict.accepted,
                **_branches(verdict),
                "paceline.tokens": len(verdict.token_ids),
                "paceline.step_seconds": verdict.step_seconds,
                "paceline.queue_seconds": verdict.queue_seconds,
                "paceline.waited_seconds": verdict.waited_seconds,
            },
        )
        self._steps += 1
