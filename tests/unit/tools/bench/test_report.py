"""From samples to figures."""

import asyncio
import math
from pathlib import Path

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.bench.delayed_wire import delayed
from paceline_tools.bench.report import TARGET_ONLY, Report
from paceline_tools.bench.samples import PROMPTS, Prompt, Sample, read_prompts
from paceline_tools.bench.throughput import LoadRun, median_rates

CODE, PROSE = Prompt("code", "def f("), Prompt("prose", "Once")


def sample(
    variant: str, prompt: Prompt, seconds: float, tokens: tuple[int, ...] = (1, 2, 3)
) -> Sample:
    """Tokens at even times, the last one after `seconds`."""
    times = tuple(seconds * (index + 1) / len(tokens) for index in range(len(tokens)))
    return Sample(variant, prompt, tokens, times, (2, 1), (2, 0))


def test_ratios_are_geometric_means_over_prompts_with_their_intervals() -> None:
    report = Report(
        (
            sample(TARGET_ONLY, CODE, 2.0),
            sample("paceline_model", CODE, 1.0),
            sample(TARGET_ONLY, PROSE, 1.0),
            sample("paceline_model", PROSE, 2.0),
            sample("generate", CODE, 4.0),
            sample("generate", PROSE, 2.0),
        ),
        "paceline_model",
    )
    ratios = report.ratios()
    speculative = ratios["speculative_vs_target_only"]
    assert speculative["all"].ratio == pytest.approx(1.0)
    assert speculative["code"].ratio == pytest.approx(2.0)
    assert speculative["prose"].ratio == pytest.approx(0.5)
    assert speculative["all"].low == pytest.approx(0.5)
    assert speculative["all"].high == pytest.approx(2.0)
    assert ratios["target_only_vs_generate"]["all"].ratio == pytest.approx(2.0)
    assert ratios["speculative_vs_generate"]["all"].ratio == pytest.approx(math.sqrt(4 * 1))
    assert "speculative_vs_assisted" not in ratios
    assert report.speed("paceline_model").accepted_by_position == (1.0, 0.0)


def test_tokens_that_differ_from_the_targets_own_are_counted() -> None:
    report = Report(
        (
            sample(TARGET_ONLY, CODE, 1.0, (1, 2, 3)),
            sample("paceline_model", CODE, 1.0, (1, 9, 3)),
            sample("paceline_model", CODE, 1.0, (1, 2)),
            sample("generate", CODE, 1.0, (7, 7, 7)),
        ),
        "paceline_model",
    )
    assert report.speed("paceline_model").differing_tokens == 2
    assert report.speed("generate").differing_tokens == 0


def test_a_target_on_vllm_is_held_to_vllm_alone() -> None:
    report = Report(
        (
            sample("vllm", CODE, 1.0, (1, 2, 3)),
            sample("vllm_draft", CODE, 1.0, (1, 2, 4)),
            sample(TARGET_ONLY, CODE, 2.0, (1, 2, 5)),
            sample("paceline_model", CODE, 0.5, (1, 2, 3)),
        ),
        "paceline_model",
        "vllm",
    )
    differing = {one: report.speed(one).differing_tokens for one in report.variants}
    assert differing == {"vllm": 0, "vllm_draft": 0, TARGET_ONLY: 1, "paceline_model": 0}
    assert report.ratios()["target_only_vs_vllm"]["all"].ratio == pytest.approx(0.5)


def test_steady_state_is_from_the_last_first_token_to_the_first_last() -> None:
    early = Sample("a", CODE, (1,) * 5, (1.0, 2.0, 3.0, 4.0, 5.0))
    late = Sample("a", CODE, (1,) * 4, (3.0, 4.0, 5.0, 6.0))
    load = LoadRun("a", (early, late))
    assert load.streams == 2
    assert load.tokens_per_second == 2.0
    assert median_rates([load, load, LoadRun("a", (early,))]) == {2: {"a": 2.0}, 1: {"a": 1.0}}
    assert LoadRun("a", (Sample("a", CODE, (1,), (1.0,)),)).tokens_per_second == 0.0


def test_the_prompts_of_the_repository_are_of_four_kinds() -> None:
    assert {prompt.kind for prompt in read_prompts(PROMPTS)} == {"code", "chat", "prose", "edit"}


def test_prompts_of_the_users_own_are_lines_of_text_or_json(tmp_path: Path) -> None:
    path = tmp_path / "prompts"
    path.write_text('{"kind": "code", "prompt": "a"}\n\nplain text\n')
    assert read_prompts(path) == [Prompt("code", "a"), Prompt("text", "plain text")]
    for wrong, said in (("", "at least one prompt"), ('{"kind": 1}', "line 1")):
        path.write_text(wrong)
        with pytest.raises(InvalidArgument, match=said):
            read_prompts(path)


async def test_a_delayed_wire_passes_all_in_order_and_late(tmp_path: Path) -> None:
    """Many may be under way: a round trip's delay is not paid for each piece."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    now = asyncio.get_running_loop().time
    server = await asyncio.start_unix_server(echo, str(tmp_path / "echo"))
    async with server, delayed(tmp_path / "slow", tmp_path / "echo", 0.05):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "slow"))
        started = now()
        for index in range(20):
            writer.write(bytes([index]))
            await writer.drain()
        assert await reader.readexactly(20) == bytes(range(20))
        assert now() - started >= 0.05
        writer.close()
        await writer.wait_closed()
