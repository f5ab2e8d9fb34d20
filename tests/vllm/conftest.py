"""One vLLM for all tests of a run: it cannot be started twice in a process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from paceline.catalog import is_model, model_folder
from paceline.engine.interfaces import StartedEngine
from target_server.engines import start_engine
from target_server.settings import TargetSettings

MODEL = os.environ.get("VLLM_TEST_MODEL", "smollm2-135m")
TOKENS = 128
EAGER = {"enforce_eager": True}
TEXTS = (
    "def fibonacci(n):\n",
    "Once upon a time there was a cyclist who",
    "The capital of France is",
    "import numpy as np\n\ndef softmax(x):\n",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 5, 8,",
    "class Stack:\n    def __init__(self):\n",
    "Water boils at",
    "SELECT name, count(*) FROM orders",
    "In 1969, the first humans",
    "The quick brown fox jumps over the lazy dog. The quick brown fox",
    "To make a good cup of tea, first",
    "for i in range(10):\n    print(",
    "Photosynthesis is the process by which",
    "Q: What is the largest planet?\nA:",
    "It was a dark and stormy night;",
)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # others may want the cores


@dataclass(frozen=True, slots=True)
class Alone:
    """Prompts, and what vLLM alone says after each of them, greedily."""

    prompts: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]


@pytest.fixture(scope="session")
def folder() -> Path:
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    if not is_model(model_folder(MODEL)):
        pytest.skip(f"{MODEL} is not here; run: paceline pull {MODEL}")
    return model_folder(MODEL)


def by_vllm(
    folder: Path, prompts: list[tuple[int, ...]], draft: str = ""
) -> tuple[list[tuple[int, ...]], int]:
    """Its outputs, and how many draft tokens it accepted. draft: address of a draft server."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.vllm.alone", str(folder), str(TOKENS)],
        input=json.dumps(prompts),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=900,
        check=True,
        env={**os.environ, "PACELINE_VLLM_DRAFT": draft},
    )
    said, accepted = json.loads(finished.stdout.strip().splitlines()[-1])
    return [tuple(output) for output in said], accepted


@pytest.fixture(scope="session")
def alone(folder: Path) -> Alone:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = [tuple(tokenizer.encode(text).ids) for text in TEXTS]
    return Alone(prompts, by_vllm(folder, prompts)[0])


@pytest.fixture(scope="session")
def started(folder: Path, alone: Alone) -> Iterator[StartedEngine]:
    """The engine, once vLLM alone has made room."""
    settings: dict[str, Any] = {"model": MODEL, "engine": "vllm", "dtype": "float32", "threads": 1}
    configured = TargetSettings(**settings, vllm_arguments=EAGER)
    running = start_engine(configured, CollectorRegistry())
    yield running
    running.engine.stop()
