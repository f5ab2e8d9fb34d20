"""What a model can be asked for: every limit that is not of the sampling parameters."""

from collections.abc import Iterable

from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.session import ModelInfo, Opening


def check_opening(opening: Opening, model: ModelInfo) -> None:
    """Raise InvalidArgument or FailedPrecondition when `model` cannot serve `opening`."""
    check_features(opening.required_features, model.features)
    check_fingerprint(opening.fingerprint, model)
    check_length(opening, model)
    for field in ("prompt_token_ids", "output_token_ids", "stop_token_ids"):
        check_token_ids(field, getattr(opening, field), model.vocabulary_size)
    check_token_ids("sampling.logit_bias", opening.sampling.logit_bias, model.vocabulary_size)


def check_features(required: tuple[str, ...], known: tuple[str, ...]) -> None:
    """FailedPrecondition for the first feature that is not known here."""
    for feature in required:
        if feature not in known:
            raise FailedPrecondition(
                f"required_features has {feature!r}; known are {', '.join(known) or 'none'}"
            )


def check_fingerprint(wanted: str, model: ModelInfo) -> None:
    """FailedPrecondition when another fingerprint is wanted than the model's."""
    if wanted and wanted != model.fingerprint:
        raise FailedPrecondition(
            f"fingerprint {wanted!r} is wanted; {model.name} here is {model.fingerprint!r}"
        )


def check_length(opening: Opening, model: ModelInfo) -> None:
    """InvalidArgument for an empty or too long prompt, or a max_tokens without room."""
    if not opening.prompt_token_ids:
        raise InvalidArgument.of("prompt", (), "at least one token")
    prompt = len(opening.prompt_token_ids)
    if prompt >= model.max_positions:
        limit = f"under {model.max_positions} tokens, the model's positions"
        raise InvalidArgument.of("prompt's length", prompt, limit)
    room = model.max_positions - prompt
    if not 1 <= opening.max_tokens <= room:
        limit = f"from 1 to {room}, what the prompt of {prompt} tokens leaves"
        raise InvalidArgument.of("max_tokens", opening.max_tokens, limit)
    if len(opening.output_token_ids) >= opening.max_tokens:
        limit = f"fewer tokens than max_tokens, {opening.max_tokens}"
        raise InvalidArgument.of("output_token_ids' length", len(opening.output_token_ids), limit)


def check_token_ids(field: str, ids: Iterable[int], vocabulary_size: int) -> None:
    """InvalidArgument for the first id outside the vocabulary."""
    for token in ids:
        if token >= vocabulary_size:
            limit = f"under {vocabulary_size}, the size of the vocabulary"
            raise InvalidArgument.of(f"a token id in {field}", token, limit)
