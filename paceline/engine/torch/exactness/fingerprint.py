"""A hash of everything that decides the bits of a target's rows: equal hashes, equal tokens."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch

from paceline.engine.sampling.sampler import SAMPLER_VERSION
from paceline.engine.torch.attention import NAME

NO_NUMBERS = {
    # Names, versions and how it was written.
    *("_name_or_path", "name_or_path", "transformers_version", "architectures", "auto_map"),
    *("torch_dtype", "dtype", "_attn_implementation", "_commit_hash", "attn_implementation"),
    # Which tokens begin and end texts: the orchestrator reads those.
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
    # What a call returns, and labels.
    *("return_dict", "output_hidden_states", "output_attentions", "output_router_logits"),
    *(
        "use_cache",
        "id2label",
        "label2id",
        "problem_type",
        "finetuning_task",
        "task_specific_params",
    ),
    # Training. Tied weights are hashed as what they are.
    *("initializer_range", "initializer_factor", "router_aux_loss_coef"),
    *("gradient_checkpointing", "tie_word_embeddings"),
}
"""Fields of a config that no forward pass reads, or that Paceline sets."""
_TRAINING = ("dropout", "_pdrop", "_drop")


def forward_config(config: dict[str, Any]) -> str:
    """All of a model's config that its forward pass may read, in one spelling."""
    return json.dumps(_kept(config), sort_keys=True, default=str)


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            str(key): _kept(inner)
            for key, inner in value.items()
            if key not in NO_NUMBERS and not str(key).endswith(_TRAINING)
        }
    return [_kept(inner) for inner in value] if isinstance(value, list | tuple) else value


def fingerprint(parts: Iterable[str]) -> str:
    """Hash of the parts, and of the versions of sampler and torch, which is pinned."""
    fixed = (f"sampler {SAMPLER_VERSION}", f"torch {torch.__version__}", f"attention {NAME}")
    digest = hashlib.sha256()
    for part in (*fixed, *parts):
        digest.update(f"{len(part)} {part}\n".encode())
    return digest.hexdigest()[:32]
