"""What the engine keeps of a session."""

from collections.abc import Callable
from dataclasses import dataclass, field

from paceline.engine.core.prefixes import MIN_TOKENS, Prefix, Tokens, as_tokens
from paceline.engine.interfaces import Decoder, KVCache
from paceline.harmless import harmless
from paceline.protocol.model import KVSize


@dataclass(eq=False, slots=True)
class EngineSession:
    """One session in the engine: its decoder, its cache, and the pages promised to it.

    tokens: those it opened with. salt: whom it shares prefixes with; None: nobody. has_room:
    whether what it comes to can be taken; it is asked for nothing while that does not hold.
    """

    decoder: Decoder
    cache: KVCache
    pages: int
    tokens: Tokens
    salt: str | None
    priority: int
    has_room: Callable[[], bool]
    admitted: bool = False
    closed: bool = field(default=False)

    def prefix(self, kv: KVSize) -> Prefix | None:
        """What others may share of it."""
        if self.salt is None or self.cache.length < MIN_TOKENS:
            return None
        with harmless("keeping a prefix"):
            kept = as_tokens(self.decoder.kept(self.cache.length))
            return Prefix(self.salt, kept, self.cache, kv.pages_of(self.cache.length))
        return None
