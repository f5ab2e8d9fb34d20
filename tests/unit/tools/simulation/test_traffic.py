"""Traffic to plan for: distributions, and traces with what may be wrong in them."""

from pathlib import Path

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.simulation.traffic import Row, arrivals, busiest, poisson, read_trace, traced

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.0319569,3180,8\n"
    "2023-11-16 18:17:05.0319569,110,0\n"
)


def written(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_azure_format_is_taken_as_it_is(tmp_path: Path) -> None:
    first, second, third = read_trace(written(tmp_path, AZURE))
    assert (first.prompt_tokens, first.output_tokens) == (4808, 10)
    assert second.time - first.time == pytest.approx(0.051997, abs=1e-5)
    assert third.time - second.time == pytest.approx(1.0)
    assert third.output_tokens == 1  # of which the prompt is read


def test_seconds_and_objects_are_taken_too(tmp_path: Path) -> None:
    lines = '{"time": 1, "prompt_tokens": 2, "output_tokens": 3}\n\n'
    lines += '{"TIMESTAMP": 1.5, "ContextTokens": 4, "GeneratedTokens": 5}\n'
    found = read_trace(written(tmp_path, lines, "trace.jsonl"))
    assert found == [Row(1.0, 2, 3), Row(1.5, 4, 5)]


HEADER = "time,prompt_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,output_tokens\n", "line 1: the header lacks prompt_tokens; it must have time, "),
        (HEADER + "1,2,3\n2,x,3\n", "line 3: prompt_tokens is 'x'; it must be a whole number up"),
        (HEADER + "1,2,-3\n", "line 2: output_tokens is '-3'; it must be a whole number"),
        (HEADER + "1,2,3\n2,3\n", "line 3: it has 2 values, the header 3"),
        (HEADER + "noon,2,3\n", "line 2: time is 'noon'; it must be seconds, or a date and time"),
        (HEADER + "nan,2,3\n", "line 2: time is 'nan'; it must be seconds, or a date and time"),
        (HEADER + "2,2,3\n1,2,3\n", "line 3: its time is before that of the line above"),
        (HEADER + "2,2,3\n", "must have two requests at different times, or more"),
        (HEADER + "2,2,3\n2,2,3\n", "must have two requests at different times, or more"),
        ("", "line 1: the header lacks time"),
    ],
)
def test_a_line_that_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as raised:
        read_trace(written(tmp_path, text))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]\n", "line 1: it is no JSON object"),
        ('{"time": 1}\n', "line 1: it lacks prompt_tokens; it must have time, prompt_tokens"),
    ],
)
def test_an_object_that_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as raised:
        read_trace(written(tmp_path, text, "trace.jsonl"))
    assert said in str(raised.value)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match="is no text with a request a line"):
        read_trace(path)


def test_the_busiest_minute_is_planned_for(tmp_path: Path) -> None:
    quiet = [Row(60.0 * index, 1, 1) for index in range(10)]
    busy = [Row(600.0 + index, 1, 7) for index in range(60)]
    assert busiest([*quiet, *busy]) == [*busy]
    rows = "".join(f"{row.time},{row.prompt_tokens},{row.output_tokens}\n" for row in busy)
    traffic = traced(written(tmp_path, HEADER + rows))
    assert traffic.rate == pytest.approx(1.0)
    assert traffic.mean_output_tokens == 7
    asked = traffic.requests(1, 200)  # again and again
    assert arrivals(asked, 2.0)[-1] == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("text", "mean"), [("7", 7.0), ("10-30", 20.0), ("exp:50", 50.0), ("1-1", 1.0)]
)
def test_lengths_are_as_given(text: str, mean: float) -> None:
    traffic = poisson(2.0, "5", text)
    assert traffic.mean_output_tokens == mean
    asked = traffic.requests(1, 4000)
    assert sum(one.output_tokens for one in asked) / 4000 == pytest.approx(mean, rel=0.06)
    assert {one.prompt_tokens for one in asked} == {5}
    assert arrivals(asked, 2.0)[-1] == pytest.approx(2000, rel=0.06)
    assert asked == traffic.requests(1, 4000) != traffic.requests(2, 4000)


@pytest.mark.parametrize("text", ["", "0", "-3", "9-3", "exp:0", "many", "1.5", "9999999"])
def test_lengths_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        poisson(1.0, "5", text)
    assert str(raised.value) == (
        f"--output-tokens is {text!r}; it must be N, LOW-HIGH or exp:MEAN, whole numbers of tokens "
        "from 1 on"
    )


def test_a_sparse_trace_is_as_busy_as_its_busiest_minute(tmp_path: Path) -> None:
    rows = "".join(f"{time},100,20\n" for time in (0, 100, 100.5, 300))
    traffic = traced(written(tmp_path, HEADER + rows))
    assert traffic.rate == pytest.approx(2 / 60)
    gaps = [one.gap for one in traffic.requests(1, 4)]
    assert sorted(gaps) == pytest.approx([0.5 / 30, 0.5 / 30, 59.5 / 30, 59.5 / 30])
    alone = traced(written(tmp_path, f"{HEADER}0,100,20\n1000,100,20\n"))
    assert alone.rate == pytest.approx(1 / 60)
    assert alone.requests(0, 1)[0].gap == pytest.approx(1.0)


def test_times_of_two_forms_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}1,100,20\n2023-11-16 18:17:03,100,20\n")
    with pytest.raises(InvalidArgument, match="line 3: its time is of another form"):
        traced(path)
