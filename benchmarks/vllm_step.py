"""Where the time of a step goes in a target on vLLM: vLLM's own parts, and ours around them.

Run it with the Python of an environment that has vLLM and Paceline, on an idle machine:
python -m benchmarks.vllm_step --model qwen2.5-coder-1.5b
CPU time is of the engine's thread alone: with --threads 1 it is all there is, and does not grow
where the machine is busy.
"""

import argparse
import os
import queue
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from paceline.engine.interfaces import StartedEngine
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import Verify
from target_server.engines import start_engine
from target_server.settings import TargetSettings
from target_server.verification import Verification

Decoded = tuple[list[int], list[float]]
"""Tokens, and seconds of each round."""
PROMPT = tuple(range(500, 564))
WARM = 8
"""Steps of a stream that do not count."""
VLLM = ("vLLM: model", "vLLM: logits", "vLLM: around it")
"""Parts that are vLLM's own; what is around it prepares inputs and attention."""
OURS = ("gathering, planning", "building the step", "telling paths", "rows", "verdicts")
KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "sampled": SamplingParams(temperature=0.8, top_p=0.95),
}


@dataclass
class Clock:
    """Adds up what each part takes, without the parts that it calls."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    inside: list[list[float]] = field(default_factory=list)

    def timed(self, owner: Any, name: str, part: str) -> None:
        """Have a function of `owner` timed from now on."""
        function = getattr(owner, name)

        def run(*args: Any, **named: Any) -> Any:
            self.inside.append([0.0, 0.0])
            started = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **named)
            finally:
                self._took(part, started)

        setattr(owner, name, run)

    def _took(self, part: str, started: tuple[float, float]) -> None:
        took = time.perf_counter() - started[0], time.thread_time() - started[1]
        within = self.inside.pop()
        for at in (0, 1):
            self.seconds[part][at] += took[at] - within[at]
            if self.inside:
                self.inside[-1][at] += took[at]

    def taken(self) -> dict[str, tuple[float, float]]:
        """Wall and CPU seconds of each part since it was asked last."""
        found = {part: (wall, cpu) for part, (wall, cpu) in self.seconds.items()}
        self.seconds.clear()
        return found


def watch(started: StartedEngine) -> Clock:
    """Time the parts of the engine's steps."""
    from paceline.engine.vllm import worker_extension

    clock, worker = Clock(), started.engine
    core = worker._runner._core  # type: ignore[attr-defined]  # no one else looks inside
    vllm = core._executor.driver_worker.worker
    clock.timed(vllm.model_runner.model, "compute_logits", "vLLM: logits")
    clock.timed(vllm.model_runner, "_model_forward", "vLLM: model")
    clock.timed(vllm, "execute_model", "vLLM: around it")
    clock.timed(worker_extension, "_extend", "telling paths")
    clock.timed(worker_extension, "_rows", "rows")
    clock.timed(core, "run", "telling paths")  # what is left of it
    clock.timed(worker, "_run", "building the step")
    clock.timed(Verification, "commit", "verdicts")
    clock.timed(worker, "_step", "gathering, planning")
    return clock


def decode(
    started: StartedEngine, sampling: SamplingParams, drafts: Sequence[int], length: int, count: int
) -> Decoded:
    """A stream of `count` tokens, `length` draft tokens a step."""
    told: queue.Queue[Any] = queue.Queue()
    opening = Opening("step", PROMPT, max_tokens=count, sampling=sampling, seed=1)
    decoder = Verification(opening, told.put, None, started.engine.max_block_tokens)
    session = started.engine.open(decoder, PROMPT, opening.max_length, salt=None)
    path, tokens, rounds = TokenPath(PROMPT), list[int](), list[float]()
    while not decoder.finished:
        ahead = tuple(drafts[len(tokens) : len(tokens) + length])
        proposal = Proposal(len(path), path.digest, ahead) if ahead else None
        begun = time.perf_counter()
        decoder.ask(Verify(proposal))
        started.engine.wake(session)
        verdict = told.get(timeout=600)
        if isinstance(verdict, Exception):
            raise verdict
        rounds.append(time.perf_counter() - begun)
        tokens += verdict.token_ids
        path.extend(verdict.token_ids)
    started.engine.close(session)
    return tokens, rounds


def measured(started: StartedEngine, clock: Clock, run: Callable[[], Decoded]) -> str:
    """A line of the table: milliseconds a step by parts."""
    before = started.engine.steps
    clock.taken()
    _, rounds = run()
    time.sleep(0.05)  # the last step's end is on the engine's thread
    taken, steps = clock.taken(), started.engine.steps - before
    parts = [f"{1e3 * taken.get(part, (0.0, 0.0))[1] / steps:7.2f}" for part in (*VLLM, *OURS)]
    ours = [1e3 * sum(taken.get(part, (0.0, 0.0))[at] for part in OURS) / steps for at in (0, 1)]
    median = 1e3 * statistics.median(rounds[WARM:])
    return " ".join([*parts, f"{ours[1]:8.2f}", f"{ours[0]:8.2f}", f"{median:8.2f}"])


def table(started: StartedEngine, clock: Clock, kind: str, tokens: int) -> None:
    """Print a line for each number of draft tokens, all of which are accepted."""
    said, _ = decode(started, KINDS[kind], (), 0, tokens)
    for length in (0, 1, 4, 8):
        run = partial(decode, started, KINDS[kind], said, length, min(tokens, 25 * (length + 1)))
        print(f"{kind}, {length} draft tokens    ", measured(started, clock, run), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    settings: dict[str, Any] = {"model": options.model, "engine": "vllm", "dtype": options.dtype}
    configured = TargetSettings(
        **settings,
        threads=options.threads,
        vllm_arguments={"enforce_eager": True} if options.eager else {},
    )
    started = start_engine(configured, CollectorRegistry())
    clock = watch(started)
    print("milliseconds of CPU a step; ours: all that is not vLLM's, of CPU and by the clock")
    print(" ".join([f"{'':24}", *VLLM, *OURS, "ours", "ours (clock)", "round"]))
    for kind in KINDS:
        table(started, clock, kind, options.tokens)
    started.engine.stop()


if __name__ == "__main__":
    main()
