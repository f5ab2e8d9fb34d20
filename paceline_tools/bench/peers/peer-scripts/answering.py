"""How a peer answers: JSON lines on standard input and output, by the standard library alone.

A request is {"token_ids", "max_tokens"}; its answer {"token_ids", "seconds"}: the tokens, greedy,
and when each came. The first answer is {"ready": true}.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

DRAFT_TOKENS = 4
"""Drafted ahead where a peer speculates and its own default is none."""
CONTEXT = 4096
"""Tokens of the longest prompt and output."""
Answer = Callable[[list[int], int], tuple[list[int], list[float]]]
"""Tokens that follow token ids, so many, and when each came, in seconds since it was asked."""


def serve(
    description: str,
    modes: tuple[str, ...],
    loaded: Callable[[argparse.Namespace], AbstractContextManager[Answer]],
) -> None:
    """Load what the arguments name, then answer until standard input ends."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=modes, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--draft", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    say = _voice()
    with loaded(options) as answer:
        say({"ready": True})
        for line in sys.stdin:
            request = json.loads(line)
            tokens, seconds = answer(request["token_ids"], request["max_tokens"])
            say({"token_ids": tokens, "seconds": seconds})


def _voice() -> Callable[[dict[str, Any]], None]:
    """What answers. Whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    return say
