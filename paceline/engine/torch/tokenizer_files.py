"""A model's tokenizer, from its local folder; no torch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paceline.errors import FailedPrecondition
from paceline.protocol.model import TokenizerFiles
from paceline.protocol.vocabulary import token_ids

ADDITIONAL_TEMPLATES = "additional_chat_templates"


def read_tokenizer(
    folder: Path, made: bytes | None = None, specials: Mapping[str, str] | None = None
) -> TokenizerFiles | None:
    """The tokenizer's files; None where there is no tokenizer.json.

    made: what stands for the missing file, and `specials` for what the others do not name.
    """
    path = folder / "tokenizer.json"
    if made is None and not path.exists():
        return None
    templates = _templates(folder)
    return TokenizerFiles(
        tokenizer_json=path.read_bytes() if made is None else made,
        chat_template=templates.pop("default", ""),
        special_tokens={**(specials or {}), **_special_tokens(folder)},
        named_templates=templates,
    )


def _templates(folder: Path) -> dict[str, str]:
    """Chat templates by name: those in files of their own, else those within JSON."""
    files = {path.stem: path for path in sorted((folder / ADDITIONAL_TEMPLATES).glob("*.jinja"))}
    if (default := folder / "chat_template.jinja").exists():
        files["default"] = default
    if files:
        return {name: path.read_text("utf-8") for name, path in files.items()}
    written = read_json(folder / "tokenizer_config.json").get("chat_template")
    if not written:  # where older processors of images keep it
        written = read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(written, list):
        return {one["name"]: one["template"] for one in written}
    return dict(written) if isinstance(written, dict) else {"default": written or ""}


def _special_tokens(folder: Path) -> dict[str, str]:
    """What templates may call by name, from every file that holds some.

    As transformers resolves them: special_tokens_map.json goes before tokenizer_config.json
    unless that lists its added tokens; then the map only adds names that are missing there.
    """
    settings = read_json(folder / "tokenizer_config.json")
    older = read_json(folder / "special_tokens_map.json")
    first, second = (older, settings) if "added_tokens_decoder" in settings else (settings, older)
    found = {name: value for name, value in {**first, **second}.items() if name.endswith("_token")}
    for more in (first, second):
        extra = more.get("extra_special_tokens")
        found |= extra if isinstance(extra, dict) else {}
    contents = {name: _content(value) for name, value in found.items()}
    return {name: content for name, content in contents.items() if content is not None}


def _content(token: Any) -> str | None:
    """A special token's text, which files hold as it is or within a description."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def vocabulary_hash(tokenizer: TokenizerFiles | None, vocabulary_size: int) -> str:
    """Hash of the map from token to id, added tokens included; of its size without a tokenizer."""
    if tokenizer is None:
        return hashlib.sha256(f"size {vocabulary_size}".encode()).hexdigest()[:16]
    pairs = sorted(token_ids(tokenizer.tokenizer_json).items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file holds, empty without one; FailedPrecondition where it is none."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise FailedPrecondition(f"{path} cannot be read: it holds no object")
    return found
