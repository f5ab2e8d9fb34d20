"""What the servers export, and docs/metrics.md: one is made of the other."""

import asyncio
import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from paceline.rpc.process_metrics import process_registry
from tests import metrics_reference
from tests.metrics_reference import PAGE, page, reasons, registries, sections, words_of_labels
from tests.promtool import promtool

WORD = re.compile(r"[a-z0-9_]+")
LENGTHS = {"paceline_request_prompt_tokens", "paceline_request_generation_tokens"}
OF_ALL_MODELS = {
    "paceline_targets_ready",
    # A picker of endpoints reads one series of each.
    "paceline_num_requests_running",
    "paceline_num_requests_waiting",
    "paceline_kv_cache_usage_perc",
}
LATENCIES = re.compile(r".*(latency|first_token|queue_time|output_token)_seconds")


@pytest.fixture(scope="module")
def exported() -> dict[str, CollectorRegistry]:
    return asyncio.run(registries())


def test_the_page_is_up_to_date(exported: dict[str, CollectorRegistry]) -> None:
    made = page(sections(exported))
    assert made == PAGE.read_text(), f"run python -m {metrics_reference.__name__}"


def test_promtool_finds_nothing_wrong(exported: dict[str, CollectorRegistry]) -> None:
    for registry in (*exported.values(), process_registry()):
        promtool("check", "metrics", said=generate_latest(registry))


def test_no_series_says_when_it_was_created(exported: dict[str, CollectorRegistry]) -> None:
    for registry in (*exported.values(), process_registry()):
        assert b"_created" not in generate_latest(registry)


def test_help_stands_alone_and_says_over_what(exported: dict[str, CollectorRegistry]) -> None:
    for some in sections(exported).values():
        for one in some:
            if not one.name.startswith("paceline_"):
                continue  # the library's own
            assert one.text.endswith("."), one
            assert len(one.text.split()) > 4, one
            if one.name.endswith("_seconds"):
                assert "econds" in one.text, one


def test_what_is_by_model_says_so(exported: dict[str, CollectorRegistry]) -> None:
    for one in sections(exported)["Orchestrator"]:
        by_pool = "draft" in one.labels
        assert by_pool or "model" in one.labels or one.name in OF_ALL_MODELS, one


def test_buckets_reach_from_a_millisecond_to_ten_minutes(
    exported: dict[str, CollectorRegistry],
) -> None:
    seen = set()
    for family in exported["Orchestrator"].collect():
        bounds = [float(one.labels["le"]) for one in family.samples if "le" in one.labels]
        if family.name in LENGTHS:
            assert bounds[:3] == [1, 2, 4]
            assert bounds[-2] >= 2**20
        elif LATENCIES.fullmatch(family.name):
            assert (bounds[0], bounds[-2]) == (0.001, 600)
        else:
            continue
        seen.add(family.name)
    assert len(seen) == 7


def test_values_of_labels_are_words() -> None:
    for words in (*words_of_labels().values(), reasons()):
        for word in words:
            assert WORD.fullmatch(word), word
