"""Which tokens of the targets' vocabularies the drafts have: compared once for each pair."""

import asyncio
from collections.abc import Collection, Iterable

import structlog

from orchestrator.backends.replica import Replica
from paceline.errors import NotFound, PacelineError
from paceline.protocol.features import VOCABULARY_MAP
from paceline.protocol.model import ModelInfo
from paceline.protocol.vocabulary import Relation, Tokens, relation, same_ids, tokens_of

_log = structlog.get_logger(__name__)

Vocabulary = tuple[str, int]
"""Hash and size of one."""


class VocabularyRelations:
    """The relations of drafts' vocabularies to targets' that are known."""

    def __init__(self) -> None:
        """Know of none."""
        self._relations: dict[tuple[Vocabulary, Vocabulary], Relation] = {}
        self._said: set[str] = set()

    def relation(self, draft: ModelInfo | None, target: ModelInfo) -> Relation | None:
        """Which tokens of a target's vocabulary a draft has; None while that is not known."""
        if draft is None:
            return None
        return by_hash(draft, target) or self._relations.get((_of(draft), _of(target)))

    def fits(self, draft: ModelInfo | None, target: ModelInfo) -> bool:
        """Whether a draft can draft for a target."""
        found = self.relation(draft, target)
        if draft is None or found is None or not found.usable:
            return False
        return found.map is None or VOCABULARY_MAP in draft.features

    def best(self, draft: ModelInfo | None, targets: Iterable[ModelInfo]) -> Relation | None:
        """The relation to the target of which a draft has most tokens; None while not known."""
        known = [self.relation(draft, target) for target in targets]
        found = [one for one in known if one is not None]
        if not found or (None in known and not any(one.usable for one in found)):
            return None
        return max(found, key=lambda one: (one.usable, one.same))

    async def learn(self, drafts: Collection[Replica], targets: Collection[Replica]) -> None:
        """Compare the pairs that were not compared yet; forget those that are gone."""
        pairs = {
            (_of(draft.model), _of(target.model)): (draft, target)
            for draft in drafts
            for target in targets
            if draft.model is not None and target.model is not None
        }
        self._relations = {key: one for key, one in self._relations.items() if key in pairs}
        for key, (draft, target) in pairs.items():
            if self._is_new(draft, target):
                try:
                    self._relations[key] = await _compare(draft, target)
                except PacelineError as error:
                    self._say(draft.address, f"its vocabulary cannot be compared: {error}")

    def _is_new(self, draft: Replica, target: Replica) -> bool:
        return target.model is not None and self.relation(draft.model, target.model) is None

    def _say(self, address: str, reason: str) -> None:
        """Once for each."""
        if (said := f"{address} {reason}") not in self._said:
            self._said = {*list(self._said)[-100:], said}
            _log.warning("draft not used yet", address=address, reason=reason)


def by_hash(draft: ModelInfo, target: ModelInfo) -> Relation | None:
    """The relation, where it is known without the tokens.

    A drafter that only looks up has no vocabulary of its own: it has all tokens of any target.
    """
    if not draft.vocabulary_hash:
        return same_ids(target.vocabulary_size, target.vocabulary_size)
    if draft.vocabulary_hash == target.vocabulary_hash:
        return same_ids(target.vocabulary_size, draft.vocabulary_size)
    return None


def _of(model: ModelInfo) -> Vocabulary:
    return model.vocabulary_hash, model.vocabulary_size


async def _compare(draft: Replica, target: Replica) -> Relation:
    """Compare two servers' vocabularies. Reading large ones takes a second, on a thread."""
    found = await asyncio.to_thread(relation, await tokens(target), await tokens(draft))
    _log.info("vocabularies compared", draft=draft.address, target=target.address, found=str(found))
    return found


async def tokens(replica: Replica) -> Tokens:
    """Of its model, fetched and read."""
    size = replica.model.vocabulary_size if replica.model is not None else 0
    try:
        content = (await replica.tokenizer_files()).tokenizer_json
    except NotFound:
        return Tokens(size)
    return await asyncio.to_thread(tokens_of, content, size)
