"""GGUF files into folders that load quickly: bf16 safetensors, tokenizer, chat template."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from paceline.catalog import write_version
from paceline.engine.torch.generation_config import default_sampling
from paceline.engine.torch.gguf.config import make_config
from paceline.engine.torch.gguf.gguf_file import GGUFFile, open_gguf
from paceline.engine.torch.gguf.tokenizer import make_tokenizer
from paceline.engine.torch.gguf.vocabulary import GGUFVocabulary, read_vocabulary
from paceline.engine.torch.gguf.weights import empty_model, read_weights
from paceline.errors import FailedPrecondition, PacelineError, in_a_line

Say = Callable[[str], None]


def convert_gguf(gguf: Path, folder: Path, say: Say = lambda _: None) -> None:
    """Write `folder` from a GGUF file and its other parts; it appears whole or not at all.

    `say` is told each phase. Takes a minute or so, and memory for the weights in bf16.
    Raises FailedPrecondition for a file whose metadata cannot all be honoured.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        with _refusing(gguf):
            _write(open_gguf(gguf), work, say)
        write_version(work)
        for path in (work, *work.rglob("*")):  # a temporary folder is closed to others
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _refusing(gguf: Path) -> Iterator[None]:
    """Refuse in one line whatever metadata of a wrong type makes fail."""
    try:
        yield
    except (PacelineError, OSError):
        raise
    except Exception as error:
        raise FailedPrecondition(f"{gguf.name} cannot be converted: {in_a_line(error)}") from error


def _write(source: GGUFFile, work: Path, say: Say) -> None:
    vocabulary = read_vocabulary(source)
    if vocabulary is not None:  # first: a tokenizer that is refused is refused within seconds
        say("reading tokenizer")
        _write_tokenizer(source, vocabulary, work)
    _write_model(source, vocabulary, work, say)


def _write_model(
    source: GGUFFile, vocabulary: GGUFVocabulary | None, folder: Path, say: Say
) -> None:
    """Weights, config, and every token that ends a turn."""
    model = empty_model(make_config(source, vocabulary))
    say("reading weights")
    weights = read_weights(source, model)
    say("writing weights")
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.dtype = "bfloat16"
    model.config.save_pretrained(folder)
    settings = _sampling(source) | _ends(vocabulary)
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2))


def _write_tokenizer(source: GGUFFile, vocabulary: GGUFVocabulary, folder: Path) -> None:
    """tokenizer.json and its settings, under a class name that every transformers knows."""
    make_tokenizer(source, vocabulary).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False))


_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
"""What follows general.sampling. in GGUF, and what generation_config.json calls it."""


def _sampling(source: GGUFFile) -> dict[str, Any]:
    """How the model likes to sample, where the file says so."""
    found = default_sampling(
        {name: _short(source.get(f"general.sampling.{part}")) for part, name in _SAMPLING.items()}
    )
    stated = {name: getattr(found, name) for name in _SAMPLING.values()}
    kept = {name: value for name, value in stated.items() if value is not None}
    return {**kept, "do_sample": True} if found.temperature else kept


def _short(value: Any) -> Any:
    """A float32 as the decimal that was meant: 0.6, not 0.6000000238418579."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _ends(vocabulary: GGUFVocabulary | None) -> dict[str, Any]:
    """The special tokens, and every one that ends a turn."""
    settings: dict[str, Any] = {}
    if vocabulary is not None:
        ids = {f"{role}_token_id": vocabulary.ids.get(role) for role in ("bos", "pad")}
        settings |= {name: value for name, value in ids.items() if value is not None}
        if ends := vocabulary.ends():  # transformers fails at an empty list
            settings["eos_token_id"] = ends
    return settings
