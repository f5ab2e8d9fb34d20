"""From a request to the sessions it needs, one opening for each choice, or why not. Pure."""

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.serving.text.bad_words import bad_sequences
from orchestrator.serving.text.tokenizer import NO_TOKENIZER, TargetTokenizer
from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.features import OF_ORCHESTRATOR, needed_of_target
from paceline.protocol.generation import GenerateRequest, Started
from paceline.protocol.hashing import mix
from paceline.protocol.limits import FIT, check_features, check_fingerprint, check_opening
from paceline.protocol.model import KVSize, ModelInfo
from paceline.protocol.sampling import Sampling, SamplingParams
from paceline.protocol.session import Opening


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request that does not say gets.

    max_tokens: within what prompt and KV leave. generation_config: sampling as the model's own
    files have it, else neutral.
    """

    max_tokens: int
    generation_config: bool = True

    def sampling(self, model: ModelInfo) -> Sampling:
        """Of requests to `model`."""
        return model.default_sampling if self.generation_config else Sampling()


def admit(
    asked: GenerateRequest,
    model: ModelInfo,
    kv_sizes: Sequence[KVSize | None],
    tokenizer: TargetTokenizer,
    request_id: str,
    defaults: Defaults,
) -> list[Opening]:
    """The sessions to open, one a choice; raises what is wrong with the request.

    kv_sizes: as of fit_kv. A prompt that is only scored is opened for one token.
    """
    check_features(asked.required_features, OF_ORCHESTRATOR)
    check_fingerprint(asked.fingerprint, model)
    for field in ("stop", "bad_words"):
        if getattr(asked, field) and not tokenizer.has_text:
            raise FailedPrecondition(f"{field}: {NO_TOKENIZER}")
    prompt = _prompt(asked, model, tokenizer, defaults.max_tokens)
    room = max(1, model.max_positions - len(prompt))
    most, sampling = asked.max_tokens, _sampling(asked, defaults.sampling(model), tokenizer)
    stop = set(asked.stop_token_ids) | (set() if asked.ignore_eos else set(model.eos_token_ids))
    openings = [
        Opening(
            request_id=request_id,
            prompt_token_ids=prompt,
            sampling=sampling,
            seed=seed,
            max_tokens=min(defaults.max_tokens, room) if most is None else max(1, most),
            output_token_ids=tuple(asked.output_token_ids),
            stop_token_ids=frozenset(stop),
            required_features=needed_of_target(asked),
            fingerprint=model.fingerprint,
            logprobs=asked.logprobs,
            prompt_logprobs=asked.prompt_logprobs if index == 0 else None,
            cache_salt=asked.cache_salt,
            priority=asked.priority,
        )
        for index, seed in enumerate(_seeds(asked))
    ]
    _check_answers(asked, model)
    check_opening(openings[0], model)
    return fit_kv(openings, kv_sizes, shorten=asked.max_tokens is None)


def _prompt(
    asked: GenerateRequest, model: ModelInfo, tokenizer: TargetTokenizer, default_max_tokens: int
) -> tuple[int, ...]:
    """Token ids of the prompt, as far as they are kept. A resumed one was cut when it began."""
    kept = asked.truncate_prompt_tokens
    if kept is None or asked.output_token_ids:
        return tokenizer.encode(asked.prompt, model.max_positions)
    if kept == FIT:
        positions = model.max_positions
        default = min(default_max_tokens, positions // 2)
        kept = positions - max(1, default if asked.max_tokens is None else asked.max_tokens)
    return tokenizer.encode(asked.prompt)[-max(1, kept) :]


def _sampling(
    asked: GenerateRequest, default: Sampling, tokenizer: TargetTokenizer
) -> SamplingParams:
    """The request's sampling parameters, with the tokens of its bad words."""
    sampling = asked.sampling.over(default)
    if not asked.bad_words:
        return sampling
    words = bad_sequences(asked.bad_words, tokenizer.encode_part)
    known = sampling.bad_words_token_ids  # of a request made of Started: the same ones
    return dataclasses.replace(sampling, bad_words_token_ids=tuple(dict.fromkeys((*known, *words))))


def started(
    openings: list[Opening], asked: GenerateRequest, model: ModelInfo, *, signs: bool = False
) -> Started:
    """What the client is told before any token. signs: of life are given."""
    first = openings[0]
    seeds = tuple(opening.seed for opening in openings)
    return Started(
        request_id=first.request_id,
        model=model.name,
        fingerprint=first.fingerprint,
        seed=first.seed if asked.seed is None else asked.seed,
        prompt_token_ids=first.prompt_token_ids,
        max_tokens=first.max_tokens if asked.max_tokens is None else asked.max_tokens,
        choice_seeds=seeds,
        sampling=first.sampling,
        signs_of_life=signs,
    )


def _check_answers(asked: GenerateRequest, model: ModelInfo) -> None:
    """FailedPrecondition for the first thing asked for that the target does not give."""
    for name in needed_of_target(asked):
        if name not in model.features:
            raise FailedPrecondition(f"{name}: this target gives no {name}; leave the field out")


def _seeds(asked: GenerateRequest) -> list[int]:
    """The seed itself for one choice, else a hash of it and the choice's index."""
    seed = secrets.randbits(64) if asked.seed is None else asked.seed
    return [seed] if asked.n == 1 else [mix(seed, index) for index in range(asked.n)]


def fit_kv(
    openings: Sequence[Opening], sizes: Sequence[KVSize | None], *, shorten: bool
) -> list[Opening]:
    """The openings of one request, each of which some target has KV for.

    They need not fit together: what finds KV full waits. sizes: of the targets; None: of one that
    does not say. shorten: the request names no max_tokens, so that it is what there is room for.
    Raises InvalidArgument naming the limit.
    """
    known = [size for size in sizes if size is not None]
    if not known or len(known) < len(sizes):
        return list(openings)
    resumes = bool(openings[0].output_token_ids)
    most = max(size.most(resumes=resumes) for size in known)
    fitting = [_shortened(one, most) if shorten else one for one in openings]
    length, prompt = fitting[0].max_length, len(fitting[0].prompt_token_ids)
    if prompt >= most:
        limit = f"under {most} tokens, what KV has for one stream"
        raise InvalidArgument.of("prompt's length", prompt, limit)
    if length > most:
        limit = f"at most {most}, what KV has for one stream"
        raise InvalidArgument.of("tokens of prompt and max_tokens together", length, limit)
    return fitting


def _shortened(opening: Opening, most: int) -> Opening:
    room = max(1, len(opening.output_token_ids), most - len(opening.prompt_token_ids))
    return dataclasses.replace(opening, max_tokens=min(opening.max_tokens, room))
