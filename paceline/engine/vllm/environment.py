"""What vLLM reads from its environment, set before it is imported."""

import logging
import os

ENVIRONMENT = {
    # The engine core and, without parallelism, the worker live in our process.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Model Runner V2 keeps requests elsewhere.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # What it logs goes where our own log lines go.
    "VLLM_CONFIGURE_LOGGING": "0",
    # All of a model is in its folder by now.
    "HF_HUB_OFFLINE": "1",
}
"""Before vLLM reads its own; what the operator has set stays, but for the first two."""
UNTRUE = ("vllm.v1.sample.logits_processor", "vllm.config.speculative")
"""Loggers that warn of what vLLM's own sampler cannot do with draft tokens; ours can."""


def prepare_environment(threads: int) -> None:
    """Set what vLLM reads when it is imported. threads: of a forward pass on this machine."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    for name, value in ENVIRONMENT.items():
        if name.endswith(("MULTIPROCESSING", "V2_MODEL_RUNNER")):
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(logging.WARNING)
    for name in UNTRUE:
        logging.getLogger(name).setLevel(logging.ERROR)
