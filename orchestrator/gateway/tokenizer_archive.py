"""A model's tokenizer as the archive that a gateway reads it from. Pure."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator

from smg_grpc_proto.generated import common_pb2

from paceline.protocol.model import TokenizerFiles

CHUNK_BYTES = 64 * 1024
_MADE = (1980, 1, 1, 0, 0, 0)
"""Of all files in it, so that equal tokenizers have equal hashes."""


def archive(files: TokenizerFiles) -> bytes:
    """A zip of tokenizer.json and a tokenizer_config.json with templates and special tokens."""
    config: dict[str, object] = dict(files.special_tokens)
    if files.named_templates:
        named = {"default": files.chat_template, **files.named_templates}
        config["chat_template"] = [
            {"name": name, "template": template} for name, template in named.items() if template
        ]
    elif files.chat_template:
        config["chat_template"] = files.chat_template
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as folder:
        folder.writestr(zipfile.ZipInfo("tokenizer.json", _MADE), files.tokenizer_json)
        folder.writestr(zipfile.ZipInfo("tokenizer_config.json", _MADE), json.dumps(config))
    return packed.getvalue()


def chunks(content: bytes) -> Iterator[common_pb2.GetTokenizerChunk]:
    """The content in pieces; its SHA-256 comes with the last one."""
    starts = range(0, len(content), CHUNK_BYTES)
    for start in starts:
        last = start == starts[-1]
        yield common_pb2.GetTokenizerChunk(
            data=content[start : start + CHUNK_BYTES],
            sha256=hashlib.sha256(content).hexdigest() if last else "",
        )
