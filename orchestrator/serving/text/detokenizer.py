"""Text of an output, token by token: of any ids, never an error, at the same cost each."""

import codecs
import json
from typing import Any, Protocol

from tokenizers import Tokenizer, decoders

_HELD_TOKENS = 8
"""Tokens held back at most while a character may lack bytes, which has four at most."""
_LONGEST_RUN = 32
"""Bytes by number that are held back at most until it is known whether all are of characters."""
_BYTE_NAMES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
_LOST = "\ufffd"


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """U+FFFD for each byte that belongs to no character, as sentencepiece has it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _LOST * (error.end - error.start), error.end


codecs.register_error("paceline-each-byte", _replace_each_byte)


class Detokenizer(Protocol):
    """Text of an output; never half a character."""

    def alone(self, token: int) -> str:
        """The text of `token` without what is before it; special tokens by their names."""

    def step(self, token: int) -> str:
        """The text that `token` completes; empty while a character lacks bytes."""

    def flush(self) -> str:
        """What is left when the output ends: bytes of no whole character, replaced (U+FFFD)."""


class Vocabulary:
    """What the tokens of a tokenizer stand for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Find out once how its tokens become text."""
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self._specials = {token.content for token in added if token.special}
        self._to_bytes = _to_bytes(tokenizer)
        self._bytes: dict[int, bytes] = {}

    def detokenizer(self, *, specials: bool = False) -> Detokenizer:
        """One at the beginning of an output. specials: whether special tokens have text."""
        if self._to_bytes is None:
            return _WindowDetokenizer(self, specials)
        if isinstance(self._to_bytes, _Pieces) and self._to_bytes.numbered:
            return _RunsDetokenizer(self, self._to_bytes, specials)
        return _BytesDetokenizer(self, self._to_bytes, specials)

    def name(self, token: int, *, specials: bool = False) -> str | None:
        """The token's own string; None for an id that is no token, and for a special token."""
        name = self._tokenizer.id_to_token(token)
        return None if name in self._specials and not specials else name

    def bytes_of(self, token: int, to_bytes: "_ToBytes", *, specials: bool) -> bytes:
        """What the token stands for, found once for each; nothing where it has no name."""
        key = token << 1 | specials
        if (found := self._bytes.get(key)) is None:
            name = self.name(token, specials=specials)
            found = self._bytes[key] = b"" if name is None else to_bytes(name)
        return found

    def decode(self, tokens: list[int], *, specials: bool = False) -> str:
        """The library's text of them; empty where its decoder fails at them."""
        try:
            return self._tokenizer.decode(tokens, skip_special_tokens=not specials)
        except Exception:  # it raises bare ones, out of decoders that are a model's own
            return ""


class _NoDetokenizer:
    """Tokens that are ids alone."""

    def alone(self, token: int) -> str:
        return ""

    def step(self, token: int) -> str:
        return ""

    def flush(self) -> str:
        return ""


NO_TEXT: Detokenizer = _NoDetokenizer()


class _BytesDetokenizer:
    """Where each token stands for bytes of its own, wherever it is: nearly all models."""

    def __init__(self, vocabulary: Vocabulary, to_bytes: "_ToBytes", specials: bool) -> None:
        self._vocabulary = vocabulary
        self._specials = specials
        self._to_bytes = to_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(to_bytes.errors)

    def alone(self, token: int) -> str:
        name = self._vocabulary.name(token, specials=True)
        return "" if name is None else self._to_bytes(name).decode(errors=self._to_bytes.errors)

    def step(self, token: int) -> str:
        found = self._vocabulary.bytes_of(token, self._to_bytes, specials=self._specials)
        return self._decoder.decode(found)

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class _RunsDetokenizer(_BytesDetokenizer):
    """Where some tokens are bytes by number.

    The library makes characters of a run of them only when all of its bytes are of characters, else
    U+FFFD of each. So a run is held back to its end; a long one comes as it can.
    """

    def __init__(self, vocabulary: Vocabulary, to_bytes: "_Pieces", specials: bool) -> None:
        super().__init__(vocabulary, to_bytes, specials)
        self._numbered = to_bytes.numbered
        self._run = bytearray()
        self._long = False

    def step(self, token: int) -> str:
        name = self._vocabulary.name(token, specials=self._specials)
        if name is None:
            return ""
        if name not in self._numbered:
            return self.flush() + self._to_bytes(name).decode()
        return self._longer(self._numbered[name])

    def flush(self) -> str:
        run, self._run = bytes(self._run), bytearray()
        if self._long:
            self._long = False
            return self._decoder.decode(b"", final=True)
        try:
            return run.decode()
        except UnicodeDecodeError:
            return _LOST * len(run)

    def _longer(self, byte: bytes) -> str:
        """What can be said of the run with one more byte."""
        self._run += byte
        self._long |= len(self._run) > _LONGEST_RUN
        if not self._long:
            return ""
        run, self._run = bytes(self._run), bytearray()
        return self._decoder.decode(run)


class _WindowDetokenizer:
    """Where a token's text depends on the one before: the library's text of a few tokens."""

    def __init__(self, vocabulary: Vocabulary, specials: bool) -> None:
        self._vocabulary = vocabulary
        self._specials = specials
        self._before: list[int] = []
        self._held: list[int] = []

    def alone(self, token: int) -> str:
        return self._vocabulary.decode([token], specials=True)

    def step(self, token: int) -> str:
        if self._vocabulary.name(token, specials=self._specials) is None:
            return ""
        self._held.append(token)
        text = self._text()
        if text.endswith(_LOST) and len(self._held) < _HELD_TOKENS:
            return ""
        self._before, self._held = [token], []
        return text

    def flush(self) -> str:
        text = self._text()
        self._held = []
        return text

    def _text(self) -> str:
        """What the held tokens add behind the one before them."""
        before = self._decode(self._before)
        whole = self._decode(self._before + self._held)
        return whole[len(before) :] if whole.startswith(before) else self._decode(self._held)

    def _decode(self, tokens: list[int]) -> str:
        return self._vocabulary.decode(tokens, specials=self._specials)


class _ToBytes(Protocol):
    """From a token's string to its bytes. errors: how bytes of no character are decoded."""

    errors: str

    def __call__(self, name: str) -> bytes: ...


class _ByteLevel:
    """GPT-2's alphabet: a letter for each byte. Other letters stand for themselves."""

    errors = "replace"

    def __init__(self) -> None:
        printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        self._bytes = {chr(byte): byte for byte in printable}
        self._bytes |= {chr(256 + index): byte for index, byte in enumerate(others)}

    def __call__(self, name: str) -> bytes:
        try:
            return bytes([self._bytes[letter] for letter in name])
        except KeyError:
            return name.encode()


class _Pieces:
    """sentencepiece's: a byte by its number, any other piece with its marks replaced."""

    errors = "paceline-each-byte"

    def __init__(self, decoder: decoders.Decoder | None, *, bytes_by_number: bool) -> None:
        self._decoder = decoder
        self.numbered = _BYTE_NAMES if bytes_by_number else {}

    def __call__(self, name: str) -> bytes:
        if (byte := self.numbered.get(name)) is not None:
            return byte
        return (name if self._decoder is None else self._decoder.decode([name])).encode()


def _to_bytes(tokenizer: Tokenizer) -> _ToBytes | None:
    """How tokens become bytes on their own; None where the tokenizer's decoder looks around."""
    if tokenizer.decoder is None:
        return None
    parts = _parts(json.loads(tokenizer.decoder.__getstate__()))
    kinds = [part["type"] for part in parts if part["type"] != "Fuse"]
    if kinds == ["ByteLevel"] and parts[0]["type"] == "ByteLevel":
        return _ByteLevel()
    each = _each(parts)
    if each is None:
        return None
    decoder = decoders.Sequence(each) if each else None
    return _Pieces(decoder, bytes_by_number="ByteFallback" in kinds)


def _parts(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    """The decoder as a flat sequence."""
    if decoder["type"] != "Sequence":
        return [decoder]
    return [part for one in decoder["decoders"] for part in _parts(one)]


def _each(parts: list[dict[str, Any]]) -> list[decoders.Decoder] | None:
    """What the parts do to each token; None when they do more.

    The blank that some take from the beginning of a whole text stays: an output begins
    behind its prompt, and not with a text.
    """
    each: list[decoders.Decoder] = []
    fused = False
    for part in parts:
        match part:
            case {"type": "Replace", "pattern": {"String": old}, "content": new} if not fused:
                each.append(decoders.Replace(old, new))
            case {"type": "Metaspace", "replacement": mark} if not fused:
                each.append(decoders.Metaspace(mark, prepend_scheme="never"))
            case {"type": "ByteFallback"} if not fused:
                pass
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "stop": 0} if fused:
                pass
            case _:
                return None
    return each
