"""What a model's files say, for a model that vLLM loads."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from paceline.engine import load_progress
from paceline.engine.torch.architectures import read_config, refusing
from paceline.engine.torch.exactness.fingerprint import forward_config
from paceline.engine.torch.generation_config import (
    default_sampling,
    eos_token_ids,
    read_generation_config,
)
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.text_part import text_config
from paceline.engine.torch.tokenizer_conversion import make_tokenizer
from paceline.engine.torch.tokenizer_files import read_tokenizer, vocabulary_hash
from paceline.engine.vllm.settings import ADAPTER_CONFIG
from paceline.protocol.model import TokenizerFiles
from paceline.protocol.sampling import Sampling

_PIECE = 1 << 24
_WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Of a model's folder. config: as its forward pass may read it. quantized: how, or empty."""

    folder: Path
    config: str
    quantized: str
    weights_hash: str
    vocabulary_hash: str
    vocabulary_size: int
    eos_token_ids: tuple[int, ...]
    default_sampling: Sampling
    tokenizer: TokenizerFiles | None


def read_files(model: str) -> ModelFiles:
    """Of the folder that a model's name stands for, fetched or converted where it is not here."""
    folder = resolve_model(model, load_progress.begin, any_weights=True)
    config = read_config(folder)
    text = text_config(config)
    with refusing(config, "has a tokenizer that cannot be read"):
        tokenizer = read_tokenizer(folder) or make_tokenizer(folder)
        vocabulary = vocabulary_hash(tokenizer, text.vocab_size)
    with refusing(config, "has a generation_config.json that cannot be read"):
        generation = read_generation_config(folder)
        ends = eos_token_ids(generation, config, text)
    content = config.to_dict()
    quantization = content.get("quantization_config") or {}
    return ModelFiles(
        folder=folder,
        config=forward_config(content),
        quantized=str(quantization.get("quant_method", "")),
        weights_hash=hash_weights(folder),
        vocabulary_hash=vocabulary,
        vocabulary_size=text.vocab_size,
        eos_token_ids=ends,
        default_sampling=default_sampling(generation),
        tokenizer=tokenizer,
    )


def hash_weights(folder: Path) -> str:
    """Hash of the files with weights, by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS)
    told = load_progress.counted("hashing weights", len(files), "parts")
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        told(1)
    return digest.hexdigest()


def hash_adapter(folder: str) -> str:
    """Of what an adapter does, wherever its folder is; empty where there is none."""
    if not folder:
        return ""
    config = (Path(folder) / ADAPTER_CONFIG).read_bytes()
    return hash_weights(Path(folder)) + hashlib.sha256(config).hexdigest()
