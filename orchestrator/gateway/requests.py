"""A gateway's request, as what generate takes. Pure; refuses what cannot be held to."""

from collections.abc import Iterator

from smg_grpc_proto.generated import vllm_engine_pb2 as vllm

from paceline.errors import InvalidArgument
from paceline.protocol.constraint import JSON_OBJECT, Constraint, ConstraintKind
from paceline.protocol.generation import GenerateRequest, Prompt
from paceline.protocol.sampling import Sampling

RANDOM_SEED = -1
"""vLLM draws a seed where it is told this one."""
_SEEDS = 2**64

_NOT_SERVED = {
    "mm_inputs": "images and other media are not served, text alone is",
    "media_refs": "images and other media are not served, text alone is",
    "kv_transfer_params": "KV is handed over between no servers",
    "kv_transfer_params_json": "KV is handed over between no servers",
    "data_parallel_rank": "there are no ranks: the orchestrator places a stream itself",
}


def request_from_vllm(message: vllm.GenerateRequest, max_positions: int) -> GenerateRequest:
    """What it asks for; max_tokens is cut to what the model's positions leave room for.

    InvalidArgument names the first field that asks for what is not served.
    """
    for field, reason in _not_served(message):
        raise InvalidArgument(f"{field}: {reason}")
    asked = message.sampling_params
    prompt = _prompt(message)
    return GenerateRequest(
        prompt=prompt,
        sampling=_sampling(asked),
        seed=_seed(asked),
        max_tokens=_max_tokens(asked, prompt, max_positions),
        n=asked.n or 1,
        ignore_eos=asked.ignore_eos,
        stop=tuple(asked.stop),
        stop_token_ids=tuple(asked.stop_token_ids),
        logprobs=asked.logprobs if asked.HasField("logprobs") else None,
        prompt_logprobs=asked.prompt_logprobs if asked.HasField("prompt_logprobs") else None,
        include_stop=asked.include_stop_str_in_output,
        skip_special_tokens=asked.skip_special_tokens,
        truncate_prompt_tokens=(
            asked.truncate_prompt_tokens if asked.HasField("truncate_prompt_tokens") else None
        ),
    )


def _not_served(message: vllm.GenerateRequest) -> Iterator[tuple[str, str]]:
    for field, reason in _NOT_SERVED.items():
        if message.HasField(field):
            yield field, reason
    if message.extra_mm_inputs:
        yield "extra_mm_inputs", _NOT_SERVED["mm_inputs"]


def _prompt(message: vllm.GenerateRequest) -> Prompt:
    if message.WhichOneof("input") == "text":
        return message.text
    return tuple(message.tokenized.input_ids)


def _sampling(asked: vllm.SamplingParams) -> Sampling:
    """All of it: the gateway knows the model's defaults, and has put them in.

    A repetition penalty or top_p of 0, which no model can be sampled with, is one not stated.
    """
    return Sampling(
        temperature=asked.temperature if asked.HasField("temperature") else None,
        top_k=asked.top_k,
        top_p=asked.top_p or 1.0,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty or 1.0,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        logit_bias=dict(asked.logit_bias),
        min_tokens=asked.min_tokens,
        constraint=_constraint(asked),
    )


def _constraint(asked: vllm.SamplingParams) -> Constraint | None:
    kind = asked.WhichOneof("constraint")
    if kind is None:
        return None
    if kind == "json_object":
        return JSON_OBJECT if asked.json_object else None
    if kind == "choice":
        return Constraint(ConstraintKind.CHOICE, options=tuple(asked.choice.choices))
    return Constraint(ConstraintKind(kind), getattr(asked, kind))


def _seed(asked: vllm.SamplingParams) -> int | None:
    """Seeds are 32 bits with a sign there; a negative one is a seed of its own."""
    if not asked.HasField("seed") or asked.seed == RANDOM_SEED:
        return None
    return asked.seed % _SEEDS


def _max_tokens(asked: vllm.SamplingParams, prompt: Prompt, max_positions: int) -> int | None:
    """The gateway does not look at prompt and max_tokens together: the output ends by length.

    A text's tokens are not known here, and neither is what is kept of a prompt that is cut to fit.
    """
    if not asked.HasField("max_tokens"):
        return None
    prompt_tokens = len(prompt) if isinstance(prompt, tuple) else 1
    if asked.HasField("truncate_prompt_tokens"):
        prompt_tokens = min(prompt_tokens, max(1, asked.truncate_prompt_tokens))
    return min(asked.max_tokens, max(1, max_positions - prompt_tokens))
