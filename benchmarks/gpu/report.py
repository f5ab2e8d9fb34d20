"""The short table of a day: what was aimed at, and what was seen."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Results = dict[str, dict[str, Any]]
Line = tuple[str, str, str, str]
"""What, seen, aim, and whether it is met."""

MEMORY_LIMIT = {1: 1.15, 8: 1.3}
OF_TRANSFORMERS, SPECULATIVE_OF_TRANSFORMERS = 3.0, 6.0
SPEEDUP = {"cpu": 2.0, "gpu": 2.5}
AIMED_AGREEMENT = "0.8"


def show(results: Results, device: str) -> None:
    """Print it."""
    table = Table(title=f"A day with {_card(results)}")
    for heading in ("what", "seen", "aim", ""):
        table.add_column(heading, overflow="fold")
    for line in lines(results, device):
        table.add_row(*line)
    Console().print(table)


def lines(results: Results, device: str) -> Iterator[Line]:
    """All of it: correctness first, then speed, then what failed."""
    for name, one in results.items():
        kind, *of = name.split(":")
        if "error" in one:
            yield name, str(one["error"])[:200], "", "failed"
        elif kind in _LINES:
            yield from _told(name, _LINES[kind](of, one, results, device))


def _told(name: str, lines: Iterator[Line]) -> Iterator[Line]:
    """Those that there are; what a part left out loses none of the others."""
    try:
        yield from lines
    except (KeyError, ZeroDivisionError) as error:
        yield name, f"without {error}", "", "failed"


def _card(results: Results) -> str:
    return str(results.get("machine", {}).get("device", "an unknown device"))


def _met(holds: bool) -> str:
    return "ok" if holds else "SHORT"


def _machine(_: list[str], one: dict[str, Any], *__: Any) -> Iterator[Line]:
    yield "memory read", f"{one['bytes_per_second'] / 1e9:.0f} GB/s", "", ""


def _tests(_: list[str], one: dict[str, Any], *__: Any) -> Iterator[Line]:
    yield "exactness tests on the device", one["summary"], "all pass", _met(one["passed"])


def _pair(of: list[str], one: dict[str, Any], *__: Any) -> Iterator[Line]:
    for asked, found in one["agreement"].items():
        near = abs(float(asked) - found) < 0.04
        yield f"{of[0]}: agreement as made", f"{found:.3f}", asked, _met(near)


def _exact(of: list[str], one: dict[str, Any], *__: Any) -> Iterator[Line]:
    seen = "yes" if one["row_exact"] else f"no: {'; '.join(one['differing'])}"
    yield f"{of[0]}: row_exact", seen, "yes", _met(one["row_exact"])


def _greedy(of: list[str], one: dict[str, Any], *__: Any) -> Iterator[Line]:
    seen = f"{one['differing']} of {one['tokens']} differ"
    yield f"{of[0]}: greedy in float32 as transformers", seen, "0", _met(not one["differing"])


def _products(of: list[str], one: dict[str, Any], *__: Any) -> Iterator[Line]:
    """All layers' products together, of what ran for all of them."""
    totals: dict[str, list[dict[str, float]]] = {}
    agree: dict[str, set[str]] = {}
    for name, found in one["products"].items():
        what = name.partition(" ")[2]
        totals.setdefault(what, []).append(found.get("microseconds", {}))
        agree.setdefault(what, set()).add(found.get("rows_agree", found.get("error", "")))
    for what, parts in totals.items():
        rows = [row for row in parts[0] if all(row in part for part in parts)]
        times = (f"{row}: {sum(part[row] for part in parts):.0f}" for row in rows)
        seen = f"us by rows {', '.join(times)}; {' / '.join(sorted(agree[what]))}"
        yield f"{of[0]}: products, {what}", seen, "", ""


def _steps(of: list[str], one: dict[str, Any], results: Results, _: str) -> Iterator[Line]:
    limit = one["weight_bytes"] / results["machine"]["bytes_per_second"]
    for streams, aim in MEMORY_LIMIT.items():
        seconds = one[f"step_seconds_{streams}x1"]
        times = seconds / limit
        seen = f"{1e3 * seconds:.2f} ms, {times:.2f} x the memory limit of {1e3 * limit:.2f} ms"
        yield f"{of[0]}: step of {streams} streams", seen, f"{aim} x", _met(times <= aim)
    times = one["transformers_seconds_per_token"] / one["step_seconds_1x1"]
    yield (
        f"{of[0]}: of transformers' generate",
        f"{times:.2f} x",
        "3 x",
        _met(times >= OF_TRANSFORMERS),
    )


def _serving(of: list[str], one: dict[str, Any], results: Results, device: str) -> Iterator[Line]:
    shape, agreement, draft = of
    same = draft == device
    where = "on the GPU" if same and device != "cpu" else "on the CPU"
    aim = SPEEDUP["gpu" if same else "cpu"] if agreement == AIMED_AGREEMENT else None
    for streams, found in one["streams"].items():
        what = f"{shape}, {agreement}: {streams} streams, draft {where}"
        off, on = found["off_tokens_per_second"], found["auto_tokens_per_second"]
        seen = f"{off:.0f} to {on:.0f} tokens/s, {found['speedup']:.2f} x"
        judged = aim is not None and streams == "1"
        yield (
            what,
            seen,
            f"{aim} x" if judged else "",
            _met(found["speedup"] >= (aim or 0)) if judged else "",
        )
        differing = found["differing"]
        if differing:
            yield f"{what}: differing tokens", str(differing), "0", _met(False)
        yield from _against_transformers(what, shape, streams, found, results, judged)


def _against_transformers(
    what: str, shape: str, streams: str, found: dict[str, Any], results: Results, judged: bool
) -> Iterator[Line]:
    steps = next((one for name, one in results.items() if name.startswith(f"steps:{shape}:")), {})
    seconds = steps.get("transformers_seconds_per_token")
    if judged and seconds:
        times = found["auto_tokens_per_second"] * seconds
        yield (
            f"{what}, of transformers",
            f"{times:.2f} x",
            "6 x",
            _met(times >= SPECULATIVE_OF_TRANSFORMERS),
        )


_LINES: dict[str, Any] = {
    "machine": _machine,
    "tests": _tests,
    "pair": _pair,
    "exact": _exact,
    "greedy": _greedy,
    "products": _products,
    "steps": _steps,
    "serving": _serving,
}
