"""What clients ask: when, with how long prompts, for how long outputs. Drawn, or from a trace."""

import csv
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, islice, pairwise
from pathlib import Path

from paceline.errors import InvalidArgument, shown

PEAK_SECONDS = 60.0
"""A trace is planned for by its busiest window of so long."""
MOST_REQUESTS, MOST_TOKENS = 1_000_000, 1_000_000
COLUMNS = {
    "TIMESTAMP": "time", "ContextTokens": "prompt_tokens", "GeneratedTokens": "output_tokens",
}  # fmt: skip
"""Columns of the Azure LLM inference traces, by what they are here."""
_NAMES = ("time", "prompt_tokens", "output_tokens")
_LENGTHS = "N, LOW-HIGH or exp:MEAN, whole numbers of tokens from 1 on"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. gap: since the one before it, in mean gaps."""

    gap: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests per second, and what they are like: draw(seed) says it without an end."""

    rate: float
    draw: Callable[[int], Iterator[Asked]]
    mean_output_tokens: float

    def requests(self, seed: int, count: int) -> list[Asked]:
        """The first of them."""
        return list(islice(self.draw(seed), count))


Lengths = Callable[[random.Random], int]


def lengths(text: str, name: str) -> tuple[Lengths, float]:
    """A distribution of token counts, and its mean. InvalidArgument says what it must be."""
    if found := re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", text):
        low, high = int(found[1]), int(found[2] or found[1])
        if 1 <= low <= high <= MOST_TOKENS:
            return lambda source: source.randint(low, high), (low + high) / 2
    if (found := re.fullmatch(r"exp:(\d{1,7})", text)) and 1 <= int(found[1]) <= MOST_TOKENS:
        mean = int(found[1])
        return lambda source: max(1, round(source.expovariate(1.0 / mean))), float(mean)
    raise InvalidArgument.of(name, text, _LENGTHS)


def poisson(rate: float, prompt_tokens: str, output_tokens: str) -> Traffic:
    """Arrivals that know nothing of each other."""
    prompt, _ = lengths(prompt_tokens, "--prompt-tokens")
    output, mean = lengths(output_tokens, "--output-tokens")

    def draw(seed: int) -> Iterator[Asked]:
        source = random.Random(seed)  # noqa: S311  no secret
        while True:
            yield Asked(source.expovariate(1.0), prompt(source), output(source))

    return Traffic(rate, draw, mean)


@dataclass(frozen=True, slots=True)
class Row:
    """A request of a trace. time: in seconds, from any moment on."""

    time: float
    prompt_tokens: int
    output_tokens: int


def traced(path: Path) -> Traffic:
    """The busiest window of a trace, again and again; each seed begins at another request of it.

    Bursts stay as they are, in mean gaps.
    """
    rows = read_trace(path)
    peak = busiest(rows)
    gaps = [late.time - early.time for early, late in pairwise(peak)]
    if rows[-1].time - rows[0].time > PEAK_SECONDS:  # the window, and not only what is between
        gaps.insert(0, PEAK_SECONDS - sum(gaps))
    else:
        peak = peak[1:]
    rate = len(gaps) / sum(gaps)
    asked = [
        Asked(gap * rate, row.prompt_tokens, row.output_tokens)
        for gap, row in zip(gaps, peak, strict=True)
    ]

    def draw(seed: int) -> Iterator[Asked]:
        at = random.Random(seed).randrange(len(asked))  # noqa: S311  no secret
        while True:
            yield asked[at]
            at = (at + 1) % len(asked)

    return Traffic(rate, draw, sum(one.output_tokens for one in asked) / len(asked))


def busiest(rows: Sequence[Row]) -> Sequence[Row]:
    """The window of PEAK_SECONDS with most requests; all of a trace that is shorter."""
    best, first = (0, 0), 0
    for last, row in enumerate(rows):
        while row.time - rows[first].time > PEAK_SECONDS:
            first += 1
        if last - first > best[1] - best[0]:
            best = first, last
    return rows[best[0] : best[1] + 1]


def read_trace(path: Path) -> list[Row]:
    """CSV with a header, or JSONL. InvalidArgument names the line that is wrong, and how."""
    rows: list[Row] = []
    kinds: set[bool] = set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = _json_lines(path, file) if _is_json(path) else _csv_lines(path, file)
            for number, values in lines:
                rows.append(_row(path, number, values))
                kinds.add(_is_number(values["time"]))
                if len(kinds) > 1:
                    raise _wrong(path, number, "its time is of another form than those above")
                if len(rows) > MOST_REQUESTS:
                    limit = f"has more than {MOST_REQUESTS} requests; give an hour of it"
                    raise InvalidArgument(f"--trace {path} {limit}")
                if len(rows) > 1 and rows[-1].time < rows[-2].time:
                    raise _wrong(path, number, "its time is before that of the line above")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgument(f"--trace {path} is no text with a request a line: {error}") from None
    if len(rows) < 2 or rows[-1].time == rows[0].time:
        raise InvalidArgument(f"--trace {path} must have two requests at different times, or more")
    return rows


def _is_json(path: Path) -> bool:
    return path.suffix in {".json", ".jsonl"}


def _csv_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(file)
    header = [COLUMNS.get(name.strip(), name.strip()) for name in next(reader, [])]
    if missing := [name for name in _NAMES if name not in header]:
        raise _wrong(path, 1, f"the header lacks {missing[0]}; it must have {_columns()}")
    for values in reader:
        if values:
            if len(values) != len(header):
                many = f"it has {len(values)} values, the header {len(header)}"
                raise _wrong(path, reader.line_num, many)
            yield reader.line_num, dict(zip(header, values, strict=True))


def _json_lines(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise _wrong(path, number, "it is no JSON object")
        named = {COLUMNS.get(str(name), str(name)): value for name, value in found.items()}
        if missing := [name for name in _NAMES if name not in named]:
            raise _wrong(path, number, f"it lacks {missing[0]}; it must have {_columns()}")
        yield number, named


def _columns() -> str:
    return f"{', '.join(_NAMES)}, or {', '.join(COLUMNS)}"


def _row(path: Path, number: int, values: Mapping[str, object]) -> Row:
    counts = []
    for name in _NAMES[1:]:
        text = str(values[name]).strip()
        if not re.fullmatch(r"\d{1,7}", text) or not 0 <= int(text) <= MOST_TOKENS:
            limit = f"a whole number up to {MOST_TOKENS}"
            raise _wrong(path, number, f"{name} is {shown(text)}; it must be {limit}")
        counts.append(max(1, int(text)))  # who generates none reads a prompt for one
    return Row(_seconds(path, number, values["time"]), *counts)


def _seconds(path: Path, number: int, value: object) -> float:
    """Seconds, or a time of day; digits behind microseconds are left out."""
    text = str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            short = re.sub(r"(\.\d{6})\d+", r"\1", text)
            seconds = datetime.fromisoformat(short).timestamp()
        except (ValueError, OverflowError):
            seconds = math.nan
    if not math.isfinite(seconds):
        limit = "it must be seconds, or a date and time as in 2023-11-16 18:17:03"
        raise _wrong(path, number, f"time is {shown(text)}; {limit}")
    return seconds


def _is_number(value: object) -> bool:
    return re.fullmatch(r"[-+.\deE]+", str(value).strip()) is not None


def _wrong(path: Path, number: int, what: str) -> InvalidArgument:
    return InvalidArgument(f"--trace {path}, line {number}: {what}")


def arrivals(asked: Sequence[Asked], rate: float) -> list[float]:
    """When they come at so many a second, from 0 on."""
    return list(accumulate(one.gap / rate for one in asked))
