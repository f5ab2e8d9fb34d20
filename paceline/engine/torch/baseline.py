"""python -m paceline.engine.torch.baseline: transformers as it is, to be compared with.

Reads one JSON object a line from standard input, {"method", "token_ids", "max_tokens"}, and
answers each with {"token_ids", "seconds"}: the tokens, and when each came. Methods: generate;
assisted (with the draft); lookup (prompt lookup); all greedy, with their defaults. With method
continuous_batching there are "prompts" instead of "token_ids", and "outputs" for an answer.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from paceline.engine.torch.model_folder import resolve_model

LOOKUP_TOKENS = 10
BATCH_BLOCKS, BATCH_TOKENS = 256, 256


class Clock(BaseStreamer):
    """Notes when tokens come."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._prompt = True
        self.token_ids: list[int] = []
        self.seconds: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Take tokens, [n] or [1, n]; what comes first is the prompt."""
        if self._prompt:
            self._prompt = False
            return
        tokens = value.reshape(-1).tolist()
        self.token_ids += tokens
        self.seconds += [time.perf_counter() - self._started] * len(tokens)

    def end(self) -> None:
        """Nothing is held back."""


def main() -> None:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--draft", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    target = _load(resolve_model(options.target), options.dtype)
    draft = _load(resolve_model(options.draft), options.dtype)
    _say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        batch = request["method"] == "continuous_batching"
        _say(_batch(request, target) if batch else _answer(request, target, draft))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _load(folder: Path, dtype: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    # Outputs run to max_tokens, as ours do: speeds are of equally many tokens.
    model.generation_config.eos_token_id = None
    return model


def _batch(request: dict[str, Any], target: Any) -> dict[str, Any]:
    """All prompts at once. Its cache, sized by a GPU's memory elsewhere, is large enough here."""
    started = time.perf_counter()
    outputs = target.generate_batch(
        request["prompts"],
        generation_config=GenerationConfig(
            max_new_tokens=request["max_tokens"], do_sample=False, eos_token_id=-1, pad_token_id=0
        ),
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=BATCH_BLOCKS, max_batch_tokens=BATCH_TOKENS
        ),
        record_timestamps=True,
    )
    by_prompt = {tuple(output.prompt_ids): output for output in outputs.values()}
    found = [by_prompt[tuple(prompt)] for prompt in request["prompts"]]
    return {
        "outputs": [
            {
                "token_ids": output.generated_tokens,
                "seconds": [stamp - started for stamp in output.timestamps],
            }
            for output in found
        ]
    }


def _answer(request: dict[str, Any], target: Any, draft: Any) -> dict[str, Any]:
    ids = torch.tensor([request["token_ids"]])
    ways: dict[str, dict[str, Any]] = {
        "generate": {},
        "assisted": {"assistant_model": draft},
        "lookup": {"prompt_lookup_num_tokens": LOOKUP_TOKENS},
    }
    clock = Clock()
    target.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request["max_tokens"],
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=0,
        streamer=clock,
        **ways[request["method"]],
    )
    count = request["max_tokens"]
    return {"token_ids": clock.token_ids[:count], "seconds": clock.seconds[:count]}


if __name__ == "__main__":
    main()
