"""A model's tokenizer, from its local folder; no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from paceline.session import TokenizerFiles
from paceline.vocabulary import token_ids


def read_tokenizer(folder: Path) -> TokenizerFiles | None:
    """The tokenizer's files; None where there is no tokenizer.json."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    settings: dict[str, Any] = _read_json(folder / "tokenizer_config.json")
    template = folder / "chat_template.jinja"
    specials = {
        name: value["content"] if isinstance(value, dict) else value
        for name, value in settings.items()
        if name.endswith("_token") and isinstance(value, str | dict)
    }
    return TokenizerFiles(
        tokenizer_json=path.read_bytes(),
        chat_template=template.read_text()
        if template.exists()
        else str(settings.get("chat_template") or ""),
        special_tokens=specials,
    )


def vocabulary_hash(tokenizer: TokenizerFiles | None, vocabulary_size: int) -> str:
    """Hash of the map from token to id, added tokens included; of its size without a tokenizer."""
    if tokenizer is None:
        return hashlib.sha256(f"size {vocabulary_size}".encode()).hexdigest()[:16]
    pairs = sorted(token_ids(tokenizer.tokenizer_json).items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
