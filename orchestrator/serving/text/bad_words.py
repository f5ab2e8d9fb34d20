"""Words that are not to be generated, as the tokens they are made of. Pure."""

from collections.abc import Callable, Iterable, Iterator

Encode = Callable[[str], tuple[int, ...]]


def bad_sequences(words: Iterable[str], encode: Encode) -> tuple[tuple[int, ...], ...]:
    """Tokens of each word at the beginning of a text, and behind a blank; none of them twice.

    vLLM forbids the one behind a blank only where it has as many tokens as the other. encode: of
    a part of a text.
    """
    found = (encode(text) for word in words for text in _forms(word))
    return tuple(dict.fromkeys(tokens for tokens in found if tokens))


def _forms(word: str) -> Iterator[str]:
    yield word.lstrip()
    yield f" {word.lstrip()}"
