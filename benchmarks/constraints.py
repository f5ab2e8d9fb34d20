"""llguidance and xgrammar on the same schemas and the same ids: masks, compiling, memory.

    python -m benchmarks.constraints ~/.cache/paceline/models/qwen2.5-coder-0.5b

Each library runs in a process of its own, in turn, so that memory is its own. xgrammar is no
dependency: --xgrammar-python names an interpreter that has it (0.2.9 needs torch and transformers).
Without one only llguidance is measured.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SUITE = Path(__file__).parents[1] / "tests" / "json_schema_test_suite" / "schemas.json"
LIBRARIES = ("llguidance", "xgrammar")
MAX_TOKENS = 48
Stepper = tuple[Callable[[], Any], Callable[[int], Any]]


def llguidance(folder: Path, size: int) -> Callable[[str], Stepper]:
    """Compiles a schema with llguidance, as paceline.engine.grammar does."""
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer((folder / "tokenizer.json").read_text(), n_vocab=size)

    def compiled(schema: str) -> Stepper:
        matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
        if matcher.get_error():
            raise ValueError(matcher.get_error())
        words = np.zeros(-(-size // 32), np.int32)

        def mask() -> Any:
            words[:] = 0
            if not matcher.is_stopped():
                matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
            return words

        return mask, matcher.consume_token

    return compiled


def xgrammar(folder: Path, size: int) -> Callable[[str], Stepper]:
    """Compiles a schema with xgrammar."""
    import xgrammar as library  # type: ignore[import-not-found]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    info = library.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    compiler = library.GrammarCompiler(info, cache_enabled=False, max_threads=1)
    bits = library.allocate_token_bitmask(1, size)

    def compiled(schema: str) -> Stepper:
        matcher = library.GrammarMatcher(compiler.compile_json_schema(schema))

        def mask() -> Any:
            bits.fill_(0)
            if not matcher.is_terminated():
                matcher.fill_next_token_bitmask(bits)
            return bits[0].numpy()

        return mask, matcher.accept_token

    return compiled


def schemas() -> list[str]:
    """Those of the suite that are objects."""
    cases = json.loads(SUITE.read_text(encoding="utf-8"))
    return [json.dumps(case["schema"]) for case in cases if isinstance(case["schema"], dict)]


def walk(stepper: Stepper, size: int, seed: int) -> list[float]:
    """Seconds of each mask on a random way through the grammar."""
    mask, consume = stepper
    rng, seconds = np.random.default_rng(seed), list[float]()
    for _ in range(MAX_TOKENS):
        started = time.perf_counter()
        words = mask()
        seconds.append(time.perf_counter() - started)
        bits = np.unpackbits(words.view(np.uint8), count=size, bitorder="little")
        ids = np.flatnonzero(bits)
        ids = ids[: int(0.99 * len(ids)) + 1]  # an end of text is among the last
        if not len(ids):
            break
        consume(int(rng.choice(ids)))
    return seconds


def measured(library: str, folder: Path, size: int) -> dict[str, float]:
    """What one library takes for all schemas."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    compiled = {"llguidance": llguidance, "xgrammar": xgrammar}[library](folder, size)
    load = time.perf_counter() - started
    compiling, masks, refused = list[float](), list[float](), 0
    given = schemas()
    for index, schema in enumerate(given):
        started = time.perf_counter()
        try:
            stepper = compiled(schema)
        except Exception:  # both raise bare ones
            refused += 1
            continue
        compiling.append(time.perf_counter() - started)
        masks += walk(stepper, size, index)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "schemas": len(given),
        "taken": len(given) - refused,
        "tokenizer_s": load,
        "memory_mb": memory / 1024,
        "compile_median_ms": 1e3 * statistics.median(compiling),
        "compile_max_ms": 1e3 * max(compiling),
        "masks": len(masks),
        "mask_median_us": 1e6 * statistics.median(masks),
        "mask_90_us": 1e6 * float(np.quantile(masks, 0.9)),
        "mask_max_us": 1e6 * max(masks),
    }


def main() -> None:
    """Run the libraries in turn; a line of JSON for each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder with tokenizer.json and config.json")
    parser.add_argument("--xgrammar-python", help="interpreter that has xgrammar")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = json.loads((options.model / "config.json").read_text())["vocab_size"]
    if options.library:
        print(json.dumps(measured(options.library, options.model, size)))
        return
    pythons = {"llguidance": sys.executable, "xgrammar": options.xgrammar_python}
    for _ in range(options.runs):
        for library, python in pythons.items():
            if python:
                command = [python, __file__, str(options.model), "--library", library]
                done = subprocess.run(  # noqa: S603  this file, by an interpreter that was named
                    command, check=True, stdout=subprocess.PIPE, text=True
                )
                print(library, done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
