"""Times steps of one token, and tells the first choices behind given tokens.

python -m paceline.engine.drafts.timing ENGINE FILE --threads N --texts JSON: in a process of its
own, as a draft has it: threads of torch beside it would slow it down.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from paceline.engine.drafts.engines import ENGINES
from paceline.engine.drafts.measurements import SESSIONS
from paceline.engine.interfaces import KVCache, Runner, Span
from paceline.engine.prepared.draft_file import read_prepared

PROMPT = tuple(range(100, 228))
"""Ids that any model has which is worth drafting with."""
STEPS = 24
"""Of each number of sessions."""


def timed_steps(runner: Runner) -> list[list[float]]:
    """Seconds of each step behind short prompts, for each number of SESSIONS.

    The first few, which are slow, are left out.
    """
    caches = [runner.new_cache() for _ in range(max(SESSIONS))]
    for cache in caches:
        runner.forward([(cache, Span(0, PROMPT, 1))])
    return [_timed(runner, caches[:sessions]) for sessions in SESSIONS]


def _timed(runner: Runner, caches: list[KVCache]) -> list[float]:
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        runner.forward([(cache, Span(cache.length, (PROMPT[0],), 1)) for cache in caches])
        seconds.append(time.perf_counter() - started)
    return seconds[STEPS // 4 :]


def choices(runner: Runner, text: Sequence[int]) -> list[int]:
    """The first choice behind each token."""
    [logits] = runner.forward([(runner.new_cache(), Span(0, tuple(text), len(text)))])
    return [int(choice) for choice in logits.argmax(1)]


def main() -> None:
    """Print both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--texts", type=json.loads, required=True)
    options = parser.parse_args()
    draft = read_prepared(options.file)
    runner = ENGINES[options.engine].runner(draft, options.threads, max(SESSIONS))
    found = {
        "choices": [choices(runner, text) for text in options.texts],
        "seconds": timed_steps(runner),
    }
    print(json.dumps(found))  # noqa: T201  for who called it


if __name__ == "__main__":
    main()
