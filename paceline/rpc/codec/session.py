"""Protobuf messages to and from the values of paceline.protocol: pure, one pair a message."""

from paceline.errors import InvalidArgument
from paceline.protocol.limits import check_due_seconds, check_opening, check_token_ids
from paceline.protocol.model import ModelInfo
from paceline.protocol.proposal import Drafter, Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Advance, CostModel, Load, Opened, Opening, Progress
from paceline.protocol.verdict import PromptLogprobs, TokenLogprob, TokenLogprobs, Verdict, Verify
from paceline.protocol.vocabulary import Run, VocabularyMap
from paceline.v1 import draft_pb2, sampling_pb2, session_pb2, target_pb2

_DRAFTER = {
    Drafter.MODEL: session_pb2.DRAFTER_MODEL,
    Drafter.NGRAM: session_pb2.DRAFTER_NGRAM,
}
_DRAFTER_OF = {number: drafter for drafter, number in _DRAFTER.items()}


def sampling_to_proto(params: SamplingParams) -> sampling_pb2.SamplingParams:
    """Every field is set, neutral or not."""
    return sampling_pb2.SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=params.logit_bias,
        min_tokens=params.min_tokens,
    )


_NEUTRAL = SamplingParams()


def sampling_from_proto(message: sampling_pb2.SamplingParams) -> SamplingParams:
    """paceline.v1.SamplingParams; not checked."""

    def given(field: str) -> float:
        known = message.HasField(field)  # type: ignore[arg-type]
        return float(getattr(message if known else _NEUTRAL, field))

    return SamplingParams(
        temperature=given("temperature"),
        top_k=message.top_k,
        top_p=given("top_p"),
        min_p=message.min_p,
        repetition_penalty=given("repetition_penalty"),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=dict(message.logit_bias),
        min_tokens=message.min_tokens,
    )


def opening_to_proto(opening: Opening) -> session_pb2.Open:
    """paceline.v1.Open."""
    return session_pb2.Open(
        request_id=opening.request_id,
        prompt_token_ids=opening.prompt_token_ids,
        output_token_ids=opening.output_token_ids,
        sampling=sampling_to_proto(opening.sampling),
        seed=opening.seed,
        max_tokens=opening.max_tokens,
        stop_token_ids=sorted(opening.stop_token_ids),
        required_features=opening.required_features,
        fingerprint=opening.fingerprint,
        logprobs=opening.logprobs,
        prompt_logprobs=opening.prompt_logprobs,
        cache_salt=opening.cache_salt,
        priority=opening.priority,
        vocabulary=_vocabulary_to_proto(opening.vocabulary) if opening.vocabulary else None,
    )


def _vocabulary_to_proto(vocabulary: VocabularyMap) -> session_pb2.VocabularyMap:
    return session_pb2.VocabularyMap(
        size=vocabulary.size,
        target_ids=[run.target for run in vocabulary.runs],
        draft_ids=[run.draft for run in vocabulary.runs],
        counts=[run.count for run in vocabulary.runs],
        unknown_id=vocabulary.unknown,
    )


def _vocabulary_from_proto(message: session_pb2.VocabularyMap) -> VocabularyMap:
    lists = message.target_ids, message.draft_ids, message.counts
    if len({len(one) for one in lists}) > 1:
        lengths = tuple(len(one) for one in lists)
        raise InvalidArgument.of("vocabulary's lengths", lengths, "equal")
    runs = (Run(*run) for run in zip(*lists, strict=True))
    return VocabularyMap(message.size, tuple(runs), message.unknown_id)


def opening_from_proto(message: session_pb2.Open, model: ModelInfo) -> Opening:
    """Checked against the model that is to serve it.

    Raises InvalidArgument for a bad field, FailedPrecondition for a feature or a
    fingerprint that is not the model's.
    """
    opening = Opening(
        request_id=message.request_id,
        prompt_token_ids=tuple(message.prompt_token_ids),
        output_token_ids=tuple(message.output_token_ids),
        sampling=sampling_from_proto(message.sampling),
        seed=message.seed,
        max_tokens=message.max_tokens,
        stop_token_ids=frozenset(message.stop_token_ids),
        required_features=tuple(message.required_features),
        fingerprint=message.fingerprint,
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
        cache_salt=message.cache_salt,
        priority=message.priority,
        vocabulary=_vocabulary_from_proto(message.vocabulary)
        if message.HasField("vocabulary")
        else None,
    )
    opening.sampling.validate()
    check_opening(opening, model)
    return opening


def opened_to_proto(opened: Opened) -> session_pb2.Opened:
    """paceline.v1.Opened."""
    return session_pb2.Opened(fingerprint=opened.fingerprint)


def opened_from_proto(message: session_pb2.Opened) -> Opened:
    """paceline.v1.Opened."""
    return Opened(message.fingerprint)


def proposal_to_proto(proposal: Proposal) -> session_pb2.Proposal:
    """paceline.v1.Proposal."""
    return session_pb2.Proposal(
        position=proposal.position,
        base_digest=proposal.base_digest,
        token_ids=proposal.token_ids,
        confidences=proposal.confidences,
        drafter=_DRAFTER[proposal.drafter],
    )


def proposal_from_proto(message: session_pb2.Proposal) -> Proposal:
    """paceline.v1.Proposal."""
    return Proposal(
        message.position,
        message.base_digest,
        tuple(message.token_ids),
        tuple(message.confidences),
        _DRAFTER_OF.get(message.drafter, Drafter.MODEL),
    )


def logprobs_to_proto(logprobs: TokenLogprobs) -> session_pb2.TokenLogprobs:
    """paceline.v1.TokenLogprobs."""
    return session_pb2.TokenLogprobs(
        logprob=logprobs.logprob,
        top=[
            session_pb2.TokenLogprob(token_id=one.token_id, logprob=one.logprob, text=one.text)
            for one in logprobs.top
        ],
    )


def logprobs_from_proto(message: session_pb2.TokenLogprobs) -> TokenLogprobs:
    """paceline.v1.TokenLogprobs."""
    top = (TokenLogprob(one.token_id, one.logprob, one.text) for one in message.top)
    return TokenLogprobs(message.logprob, tuple(top))


def prompt_logprobs_to_proto(piece: PromptLogprobs) -> session_pb2.PromptLogprobs:
    """paceline.v1.PromptLogprobs."""
    tokens = [logprobs_to_proto(token) for token in piece.tokens]
    return session_pb2.PromptLogprobs(position=piece.position, tokens=tokens)


def prompt_logprobs_from_proto(message: session_pb2.PromptLogprobs) -> PromptLogprobs:
    """paceline.v1.PromptLogprobs."""
    tokens = tuple(logprobs_from_proto(token) for token in message.tokens)
    return PromptLogprobs(message.position, tokens)


def verify_to_proto(verify: Verify) -> target_pb2.Verify:
    """paceline.v1.Verify."""
    return target_pb2.Verify(
        proposal=proposal_to_proto(verify.proposal) if verify.proposal is not None else None,
        continue_steps=verify.continue_steps,
    )


def verify_from_proto(message: target_pb2.Verify, vocabulary_size: int) -> Verify:
    """Checked: InvalidArgument for an id outside the vocabulary."""
    if not message.HasField("proposal"):
        return Verify(None, message.continue_steps)
    proposal = proposal_from_proto(message.proposal)
    check_token_ids("verify.proposal", proposal.token_ids, vocabulary_size)
    return Verify(proposal, message.continue_steps)


def advance_to_proto(advance: Advance) -> draft_pb2.Advance:
    """paceline.v1.Advance."""
    return draft_pb2.Advance(
        position=advance.position,
        token_ids=advance.token_ids,
        lookahead=advance.lookahead,
        ngram_lookahead=advance.ngram_lookahead,
        due_seconds=advance.due_seconds,
        awaited=advance.awaited,
        branches=advance.branches,
    )


def advance_from_proto(message: draft_pb2.Advance, vocabulary_size: int) -> Advance:
    """Checked: InvalidArgument for an id outside the vocabulary, or for moments out of bounds."""
    check_token_ids("advance.token_ids", message.token_ids, vocabulary_size)
    check_due_seconds(message.due_seconds)
    return Advance(
        message.position,
        tuple(message.token_ids),
        message.lookahead,
        message.ngram_lookahead,
        tuple(message.due_seconds),
        message.awaited,
        message.branches,
    )


def load_to_proto(load: Load) -> session_pb2.Load:
    """paceline.v1.Load."""
    return session_pb2.Load(
        sessions=load.sessions,
        queued=load.queued,
        batched_tokens=load.batched_tokens,
        kv_pages_used=load.kv_pages_used,
        kv_pages_total=load.kv_pages_total,
    )


def load_from_proto(message: session_pb2.Load) -> Load:
    """paceline.v1.Load."""
    return Load(
        sessions=message.sessions,
        queued=message.queued,
        batched_tokens=message.batched_tokens,
        kv_pages_used=message.kv_pages_used,
        kv_pages_total=message.kv_pages_total,
    )


def progress_to_proto(progress: Progress) -> session_pb2.Progress:
    """paceline.v1.Progress."""
    return session_pb2.Progress(
        engine_steps=progress.engine_steps,
        prefilled_tokens=progress.prefilled_tokens,
        load=load_to_proto(progress.load),
    )


def progress_from_proto(message: session_pb2.Progress) -> Progress:
    """paceline.v1.Progress."""
    return Progress(message.engine_steps, message.prefilled_tokens, load_from_proto(message.load))


def verdict_to_proto(verdict: Verdict) -> target_pb2.Verdict:
    """paceline.v1.Verdict."""
    return target_pb2.Verdict(
        position=verdict.position,
        verified=verdict.verified,
        accepted=verdict.accepted,
        token_ids=verdict.token_ids,
        step_seconds=verdict.step_seconds,
        load=load_to_proto(verdict.load),
        cost_model=_cost_to_proto(verdict.cost_model) if verdict.cost_model else None,
        logprobs=[logprobs_to_proto(token) for token in verdict.logprobs],
        cached_tokens=verdict.cached_tokens,
        sampling_seconds=verdict.sampling_seconds,
        queue_seconds=verdict.queue_seconds,
    )


def _cost_to_proto(cost: CostModel) -> session_pb2.CostModel:
    return session_pb2.CostModel(step_seconds=cost.step_seconds, token_seconds=cost.token_seconds)


def verdict_from_proto(message: target_pb2.Verdict) -> Verdict:
    """paceline.v1.Verdict."""
    cost = message.cost_model
    return Verdict(
        position=message.position,
        token_ids=tuple(message.token_ids),
        verified=message.verified,
        accepted=message.accepted,
        step_seconds=message.step_seconds,
        load=load_from_proto(message.load),
        cost_model=CostModel(cost.step_seconds, cost.token_seconds)
        if message.HasField("cost_model")
        else None,
        logprobs=tuple(logprobs_from_proto(token) for token in message.logprobs),
        cached_tokens=message.cached_tokens,
        sampling_seconds=message.sampling_seconds,
        queue_seconds=message.queue_seconds,
    )
