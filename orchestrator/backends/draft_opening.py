"""The session that a draft is asked for, along a stream of a target."""

import dataclasses

from orchestrator.backends.vocabulary_relations import VocabularyRelations
from paceline.protocol.features import VOCABULARY_MAP
from paceline.protocol.model import ModelInfo
from paceline.protocol.session import Opening


def opening_for(
    draft: ModelInfo | None,
    target: ModelInfo,
    vocabularies: VocabularyRelations,
    opening: Opening,
    output: tuple[int, ...],
) -> Opening:
    """The draft's session: as much of the output as it has positions for, behind `output`.

    A draft has numerics of its own and no use for logprobs. It shares prefixes only among
    streams of one target vocabulary: cache_salt says which.
    """
    room = draft.max_positions - len(opening.prompt_token_ids) if draft else opening.max_tokens
    found = vocabularies.relation(draft, target)
    mapped = found is not None and found.map is not None
    return dataclasses.replace(
        opening,
        output_token_ids=output,
        max_tokens=min(opening.max_tokens, room),
        fingerprint="",
        logprobs=None,
        prompt_logprobs=None,
        required_features=(VOCABULARY_MAP,) if mapped else (),
        cache_salt=f"{target.vocabulary_hash} {opening.cache_salt}",
        vocabulary=found.map if found is not None else None,
    )
