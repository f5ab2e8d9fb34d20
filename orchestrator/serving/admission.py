"""From a request to the sessions it needs: one opening for each choice. Pure."""

import secrets

from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline.errors import FailedPrecondition
from paceline.protocol.generation import GenerateRequest, Started
from paceline.protocol.hashing import mix
from paceline.protocol.limits import check_features, check_fingerprint, check_opening
from paceline.protocol.model import ModelInfo
from paceline.protocol.session import Opening

FEATURES = ("cache_salt", "logprobs", "n", "priority", "prompt_logprobs", "stop")
"""What GenerateRequest.required_features may name."""


def admit(
    asked: GenerateRequest,
    model: ModelInfo,
    tokenizer: TargetTokenizer,
    request_id: str,
    default_max_tokens: int,
) -> list[Opening]:
    """The sessions to open, one a choice; raises what is wrong with the request.

    default_max_tokens: for a request that names none, within what the prompt leaves.
    """
    check_features(asked.required_features, FEATURES)
    check_fingerprint(asked.fingerprint, model)
    if asked.stop and not tokenizer.has_text:
        raise FailedPrecondition("stop: the model has no tokenizer.json: its tokens have no text")
    prompt = tokenizer.encode(asked.prompt, model.max_positions)
    room = max(1, model.max_positions - len(prompt))
    stop = set(asked.stop_token_ids) | (set() if asked.ignore_eos else set(model.eos_token_ids))
    openings = [
        Opening(
            request_id=request_id,
            prompt_token_ids=prompt,
            sampling=asked.sampling,
            seed=seed,
            max_tokens=asked.max_tokens or min(default_max_tokens, room),
            output_token_ids=asked.output_token_ids,
            stop_token_ids=frozenset(stop),
            required_features=_needed_features(asked),
            fingerprint=model.fingerprint,
            logprobs=asked.logprobs,
            prompt_logprobs=asked.prompt_logprobs if index == 0 else None,
            cache_salt=asked.cache_salt,
            priority=asked.priority,
        )
        for index, seed in enumerate(_seeds(asked))
    ]
    check_opening(openings[0], model)
    return openings


def started(openings: list[Opening], asked: GenerateRequest, model: ModelInfo) -> Started:
    """What the client is told before any token."""
    first = openings[0]
    seeds = tuple(opening.seed for opening in openings)
    return Started(
        request_id=first.request_id,
        model=model.name,
        fingerprint=first.fingerprint,
        seed=first.seed if asked.seed is None else asked.seed,
        prompt_token_ids=first.prompt_token_ids,
        max_tokens=first.max_tokens,
        choice_seeds=seeds,
    )


def _seeds(asked: GenerateRequest) -> list[int]:
    """The seed itself for one choice, else a hash of it and the choice's index."""
    seed = secrets.randbits(64) if asked.seed is None else asked.seed
    return [seed] if asked.n == 1 else [mix(seed, index) for index in range(asked.n)]


def _needed_features(asked: GenerateRequest) -> tuple[str, ...]:
    """What the target must know of: a server that is older would leave it out in silence."""
    needed = {
        "logprobs": asked.logprobs is not None,
        "prompt_logprobs": asked.prompt_logprobs is not None,
    }
    return tuple(name for name, holds in needed.items() if holds)
