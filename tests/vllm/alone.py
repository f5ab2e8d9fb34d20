"""What vLLM says alone, in a process of its own: python -m tests.vllm.alone FOLDER TOKENS.

Reads prompts as a list of lists of token ids from standard input, writes outputs likewise, and how
many draft tokens were accepted: with PACELINE_VLLM_DRAFT it has our scheduler.
"""

import json
import os
import sys
from typing import Any


def main() -> None:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM, SamplingParams

    folder, tokens = sys.argv[1], int(sys.argv[2])
    prompts = [{"prompt_token_ids": prompt} for prompt in json.load(sys.stdin)]
    drafted: dict[str, Any] = {}
    if os.environ.get("PACELINE_VLLM_DRAFT"):
        drafted = {
            "scheduler_cls": "paceline.vllm.Scheduler",
            "async_scheduling": False,
            "speculative_config": {
                "method": "custom_class",
                "model": "paceline.vllm.NoDrafts",
                "num_speculative_tokens": 6,
            },
        }
    model = LLM(
        **drafted,
        disable_log_stats=False,
        model=folder,
        dtype="float32",
        enforce_eager=True,
        skip_tokenizer_init=True,
        language_model_only=True,  # of a model that also sees
        distributed_executor_backend="uni",
    )
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    outputs = model.generate(prompts, params, use_tqdm=False)
    said = [list(output.outputs[0].token_ids) for output in outputs]
    sys.stderr.flush()
    counts = {one.name: getattr(one, "value", 0) for one in model.get_metrics()}
    accepted = counts.get("vllm:spec_decode_num_accepted_tokens", 0)
    print(f"\n{json.dumps([said, accepted])}", flush=True)  # noqa: T201
    os._exit(0)  # its threads need not be waited for


if __name__ == "__main__":
    main()
