"""The text of one output, token by token: detokenized, and cut at a stop string. Pure."""

import dataclasses

from orchestrator.serving.text.detokenizer import Detokenizer
from orchestrator.serving.text.stop_strings import StopStrings
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TokenLogprobs


class OutputText:
    """Tokens in, the text that each lets through out."""

    def __init__(
        self,
        opening: Opening,
        detokenizer: Detokenizer,
        stop: tuple[str, ...],
        *,
        include_stop: bool = False,
    ) -> None:
        """At the beginning of the opening's output. include_stop: what ends it has text, too."""
        self._detokenizer = detokenizer
        self._stop = StopStrings(stop, keep=include_stop)
        self._without_text = frozenset() if include_stop else opening.stop_token_ids
        self._min_tokens = opening.sampling.min_tokens
        self.length = 0
        """Characters let through."""

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the output, if one did."""
        return self._stop.found

    def step(self, token: int, count: int) -> str:
        """What `token` lets through, as the output's token number `count`, from 1."""
        if token in self._without_text:
            return ""
        armed = count >= self._min_tokens
        text = self._stop.feed(self._detokenizer.step(token), armed=armed)
        self.length += len(text)
        return text

    def flush(self, count: int) -> str:
        """What was held back, in the order in which it came; for an output of `count` tokens."""
        armed = count >= self._min_tokens
        text = self._stop.feed(self._detokenizer.flush(), armed=armed) + self._stop.flush()
        self.length += len(text)
        return text

    def with_texts(self, logprobs: TokenLogprobs) -> TokenLogprobs:
        """Logprobs with the text of each token, taken alone."""
        top = (
            dataclasses.replace(one, text=self._detokenizer.alone(one.token_id))
            for one in logprobs.top
        )
        return TokenLogprobs(logprobs.logprob, tuple(top))
