"""tokenizer.json as the model's own, built from GGUF metadata by `tokenizer.ggml.pre`."""

from collections.abc import Iterator

import structlog
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from paceline.engine.torch.gguf.gguf_file import GGUFFile
from paceline.engine.torch.gguf.pretokenizers import AFTER_GPT2, BY_NAME, DEFAULT, PreTokenizer
from paceline.engine.torch.gguf.vocabulary import GGUFVocabulary, TokenType
from paceline.errors import FailedPrecondition

_log = structlog.get_logger(__name__)
SPACE = "\u2581"
_ADDED = {TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED}
_PHI3_KEEPS_SPACE = {"<unk>", "<s>", "<|endoftext|>"}


def make_tokenizer(source: GGUFFile, vocabulary: GGUFVocabulary) -> PreTrainedTokenizerFast:
    """The tokenizer of a file. Raises FailedPrecondition for kinds that are not known."""
    kind = source.get("tokenizer.ggml.model")
    if kind == "gpt2":
        pre = pre_tokenizer(source)
        merges = [_pair(merge) for merge in source.get("tokenizer.ggml.merges") or ()]
        tokenizer = byte_level(vocabulary, merges, pre, AFTER_GPT2.get(_pre(source), ()))
        bos = pre.add_bos
    elif kind == "llama":
        tokenizer, bos = _sentencepiece(source, vocabulary), True
    else:
        raise FailedPrecondition(f"tokenizer.ggml.model {kind!r} is not read; llama and gpt2 are")
    tokenizer.add_tokens(added_tokens(source, vocabulary))
    begins = bool(source.get("tokenizer.ggml.add_bos_token", bos))
    ends = bool(source.get("tokenizer.ggml.add_eos_token", False))
    _frame(tokenizer, vocabulary, begins, ends)
    return wrapped(tokenizer, vocabulary, source)


def _pre(source: GGUFFile) -> str:
    return str(source.get("tokenizer.ggml.pre", "default"))


def pre_tokenizer(source: GGUFFile) -> PreTokenizer:
    """The one that the file names; llama.cpp's default, with a warning, where it names none."""
    name = _pre(source)
    found = BY_NAME.get(name)
    if found is None:
        raise FailedPrecondition(f"tokenizer.ggml.pre {name!r} is not known")
    if found is DEFAULT:
        _log.warning("The file does not say how its text is split", file=source.path.name)
    return found


def _pair(merge: str) -> tuple[str, str]:
    """The two tokens of a merge, separated by the first space after the first character."""
    cut = merge.find(" ", 1)
    if cut < 0:
        raise FailedPrecondition(f"tokenizer.ggml.merges has {merge[:80]!r}, which is no pair")
    return merge[:cut], merge[cut + 1 :]


def byte_level(
    vocabulary: GGUFVocabulary,
    merges: list[tuple[str, str]],
    pre: PreTokenizer,
    after: tuple[str, ...] = (),
) -> Tokenizer:
    """A BPE of bytes, without its added tokens."""
    ids = {
        token: index
        for index, token in enumerate(vocabulary.tokens)
        if not vocabulary.is_padding(index)
    }
    made = [(a, b) for a, b in merges if a in ids and b in ids and a + b in ids]
    tokenizer = Tokenizer(models.BPE(ids, made, ignore_merges=pre.ignore_merges))
    if pre.nfc:
        tokenizer.normalizer = normalizers.NFC()
    steps = [_split(pattern) for pattern in pre.splits]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre.gpt2))
    steps += [_split(pattern) for pattern in after]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def _sentencepiece(source: GGUFFile, vocabulary: GGUFVocabulary) -> Tokenizer:
    """A BPE whose merges are ordered by the scores of their results, with byte fallback."""
    prefix = bool(source.get("tokenizer.ggml.add_space_prefix", True))
    scores = source.get("tokenizer.ggml.scores")
    if scores is None:
        raise FailedPrecondition("tokenizer.ggml.scores is missing, by which its tokens merge")
    if len(scores) != len(vocabulary.tokens):
        raise FailedPrecondition(
            f"tokenizer.ggml.scores has {len(scores)} entries for {len(vocabulary.tokens)} tokens"
        )
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    model = models.BPE(
        ids,
        list(_merges(vocabulary, ids, scores)),
        unk_token=vocabulary.token("unk"),
        fuse_unk=True,
        byte_fallback=TokenType.BYTE in vocabulary.types,
    )
    tokenizer = Tokenizer(model)
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", SPACE)]
    if source.get("tokenizer.ggml.remove_extra_whitespaces", False):
        steps.insert(0, normalizers.Replace(Regex(" {2,}"), " "))
    if prefix:
        steps.insert(len(steps) - 1, normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    pieces = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*pieces, decoders.Strip(" ", 1, 0)] if prefix else pieces
    )
    return tokenizer


def _merges(
    vocabulary: GGUFVocabulary, ids: dict[str, int], scores: list[float]
) -> Iterator[tuple[str, str]]:
    """All pairs that make a token, the token of the best score first."""
    normal = [i for i, kind in enumerate(vocabulary.types) if kind == TokenType.NORMAL]
    for index in sorted(normal, key=lambda i: (-scores[i], i)):
        token = vocabulary.tokens[index]
        pairs = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        yield from sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


def added_tokens(source: GGUFFile, vocabulary: GGUFVocabulary) -> list[AddedToken]:
    """The tokens found in text before it is split: control tokens, and those a user defined."""
    return [
        AddedToken(
            token,
            special=kind != TokenType.USER_DEFINED,
            normalized=False,
            rstrip=_strips(source, token, kind),
        )
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind in _ADDED and not vocabulary.is_padding(index)
    ]


def _strips(source: GGUFFile, token: str, kind: int) -> bool:
    """Phi-3's control tokens swallow the blanks behind them, which no metadata says."""
    phi3 = source.architecture == "phi3" and source.get("tokenizer.ggml.model") == "llama"
    return phi3 and kind == TokenType.CONTROL and token not in _PHI3_KEEPS_SPACE


def _frame(tokenizer: Tokenizer, vocabulary: GGUFVocabulary, begins: bool, ends: bool) -> None:
    """Put the begin and the end token around a text."""
    bos, eos = vocabulary.token("bos") if begins else None, None
    if ends:
        eos = vocabulary.token("eos")
    special = [(token, tokenizer.token_to_id(token)) for token in (bos, eos) if token]
    if not special:
        return
    single = [part for part in (bos, "$A", eos) if part]
    pair = single + [f"{part}:1" for part in (bos, "$B", eos) if part]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )


def wrapped(
    tokenizer: Tokenizer, vocabulary: GGUFVocabulary, source: GGUFFile
) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers saves it, with the file's chat templates."""
    roles = {f"{role}_token": vocabulary.token(role) for role in ("bos", "eos", "unk", "pad")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        chat_template=_templates(source),
        **{role: token for role, token in roles.items() if token is not None},
    )


def _templates(source: GGUFFile) -> str | dict[str, str] | None:
    """The chat template, or several by name."""
    default = source.get("tokenizer.chat_template")
    names = source.get("tokenizer.chat_templates") or ()
    others = {name: source.get(f"tokenizer.chat_template.{name}") for name in names}
    found = {name: text for name, text in others.items() if text}
    return {"default": default, **found} if default and found else default
