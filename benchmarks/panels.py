"""What the dashboard shows: each panel's queries, and what they tell. Pure.

python -m benchmarks.grafana makes deploy/grafana/paceline.json and the tables of docs/dashboard.md
of them, python -m benchmarks.dashboard draws them.
"""

import re
from dataclasses import dataclass, replace

RATE = "[$__rate_interval]"
MODEL, POOL = 'model=~"$model"', 'draft=~"$pool"'
OURS = "and on (instance) paceline_build_info"
"""Of metrics that other programs have as well."""
INSTALL = 'namespace=~"$namespace",job=~"$job"'
"""Of several installs in one Prometheus, those that are chosen."""
QUANTILES = {"median": 0.5, "95th percentile": 0.95, "99th percentile": 0.99}


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time. queries: by legend, in which {{label}} stands for a label's value.

    unit: as Grafana calls it. tells: what it shows. do: what to do about it.
    """

    title: str
    queries: dict[str, str]
    unit: str
    tells: str
    do: str
    stacked: bool = False


def _rate(metric: str, by: str, which: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{which}}}{RATE}))"


def _quantiles(metric: str, which: str = MODEL) -> dict[str, str]:
    """Over all models or instances that are chosen."""
    buckets = _rate(f"{metric}_bucket", "le", which)
    return {name: f"histogram_quantile({share}, {buckets})" for name, share in QUANTILES.items()}


def _share(part: str, whole: str, by: str, which: str) -> str:
    return f"{_rate(part, by, which)} / {_rate(whole, by, which)}"


def _spec(name: str) -> str:
    return f"paceline_spec_decode_num_{name}_total"


_OVERVIEW = (
    Panel(
        "Output tokens",
        {"{{model}}": _rate("paceline_generation_tokens_total", "model", MODEL)},
        "tokens/s",
        "Output tokens per second of all streams.",
        "Flat while more streams wait: the targets are full. Add replicas.",
    ),
    Panel(
        "Requests",
        {
            "running": "sum(paceline_num_requests_running)",
            "waiting": "sum(paceline_num_requests_waiting)",
        },
        "none",
        "Requests that a target works on, and that wait for a target or for KV; of all models.",
        "Waiting for minutes: add target replicas, or raise `--kv-tokens`.",
    ),
    Panel(
        "Streams ended, by outcome",
        {"{{outcome}}": _rate("paceline_streams_total", "outcome", MODEL)},
        "ops",
        "Streams that ended per second: whole (`stop`, `length`), given up by clients "
        "(`cancelled`, `aborted`), or with an error.",
        "See PacelineStreamsFail in [Watching a deployment](watching.md#pacelinestreamsfail).",
        stacked=True,
    ),
)
_LATENCY = (
    Panel(
        "Time to first token",
        _quantiles("paceline_time_to_first_token_seconds"),
        "s",
        "From a request's arrival to its first token.",
        "Compare with the queue time. The rest is the prompt: let prompts share a prefix.",
    ),
    Panel(
        "Inter-token latency",
        _quantiles("paceline_inter_token_latency_seconds"),
        "s",
        "From one piece of output to the next; a piece may be several tokens.",
        "It grows with streams on a target. Compare with the step time of engines.",
    ),
    Panel(
        "End-to-end latency",
        _quantiles("paceline_e2e_request_latency_seconds"),
        "s",
        "From a request's arrival to its last token, of streams that are whole.",
        "It follows the length of outputs: see the two before.",
    ),
    Panel(
        "Queue time",
        _quantiles("paceline_request_queue_time_seconds"),
        "s",
        "Of the time to first token: until a target began with the request.",
        "Above a second: streams wait for KV or for a target. Add replicas.",
    ),
    Panel(
        "A round",
        {
            "round, median": (
                f"histogram_quantile(0.5, {_rate('paceline_round_seconds_bucket', 'le', MODEL)})"
            ),
            "overhead, median": (
                "histogram_quantile(0.5, "
                f"{_rate('paceline_round_overhead_seconds_bucket', 'le', MODEL)})"
            ),
        },
        "s",
        "Time of a round, and what of it is neither the wait for the draft nor the target's pass.",
        "An overhead above 10 ms: see the next panel.",
    ),
    Panel(
        "Overhead of a round, by part",
        {
            "{{part}}": (
                f"{_rate('paceline_round_overhead_part_seconds_total', 'part', MODEL)} / ignoring "
                "(part) group_left sum(rate(paceline_round_overhead_seconds_count"
                f"{{{MODEL}}}{RATE}))"
            )
        },
        "s",
        "Mean overhead of a round, by what it is.",
        "`wire`: network or CPU. `queue`: the target is busy with others. `codec`, `emit`: add "
        "orchestrators.",
        stacked=True,
    ),
)
_SPECULATION = (
    Panel(
        "Acceptance rate",
        {"{{draft}}": _share(_spec("accepted_tokens"), _spec("verified_tokens"), "draft", POOL)},
        "percentunit",
        "Share of verified draft tokens that the target accepted, by pool.",
        "Below 0.2 a draft does not know this text: see PacelineDraftBad.",
    ),
    Panel(
        "Acceptance rate, by draft position",
        {
            "{{draft}} {{position}}": _share(
                _spec("accepted_tokens_per_pos"),
                _spec("verified_tokens_per_pos"),
                "draft, position",
                POOL,
            )
        },
        "percentunit",
        "The same for the first draft token of a round (0), the second, and so on.",
        "Low at 0: the draft is wrong for the text. It falls with the position by nature.",
    ),
    Panel(
        "Speed-up over the target alone",
        {
            "{{draft}}": f"avg by (draft) (paceline_draft_speedup_ratio{{{POOL}}})",
            "{{draft}}, lower bound": (
                f"min by (draft) (paceline_draft_speedup_ratio_low{{{POOL}}})"
            ),
            "{{draft}}, upper bound": (
                f"max by (draft) (paceline_draft_speedup_ratio_high{{{POOL}}})"
            ),
        },
        "x",
        "Speed of a pool's streams over that of the target alone at the same load, with its 95 % "
        "interval. 1.3 is 30 % faster. Absent until it was measured.",
        "An upper bound below 1 for long, and not benched: see PacelineDraftSlowsDown.",
    ),
    Panel(
        "Why steps draft or do not",
        {"{{reason}}": _rate("paceline_pacing_steps_total", "reason", POOL)},
        "ops",
        "Steps planned per second, by [reason](metrics.md#reasons).",
        "Mostly `paused_speedup` or `paused_acceptance`: the draft does not pay. `no_draft`: it "
        "is away or late.",
        stacked=True,
    ),
    Panel(
        "Tokens per step of a target",
        {
            "{{model}}": (
                f"{_rate('paceline_generation_tokens_total', 'model', MODEL)} / "
                f"({_rate(_spec('rounds'), 'model', MODEL)} + "
                f"{_rate(_spec('target_only_steps'), 'model', MODEL)})"
            )
        },
        "none",
        "Output tokens of a stream in a step of its target; 1 is the target alone.",
        "Near 1 with drafts in use: see acceptance and reasons.",
    ),
    Panel(
        "Draft tokens",
        {
            "{{draft}} drafted": _rate(_spec("draft_tokens"), "draft", POOL),
            "{{draft}} verified": _rate(_spec("verified_tokens"), "draft", POOL),
            "{{draft}} accepted": _rate(_spec("accepted_tokens"), "draft", POOL),
        },
        "tokens/s",
        "Draft tokens per second: that came, that were verified, that were accepted.",
        "Drafted far above accepted is work of the draft's hardware for nothing.",
    ),
    Panel(
        "Streams with a draft of the pool",
        {
            "{{draft}}": f"sum by (draft) (paceline_draft_streams_running{{{POOL}}})",
            "{{draft}} benched": f"max by (draft) (paceline_draft_benched{{{POOL}}})",
        },
        "none",
        "Which pool running streams use, and whether it is benched (1).",
        "Benched: put a better draft in its place, or take it away.",
    ),
    Panel(
        "Streams that changed servers",
        {
            "{{model}} lost a target": _rate("paceline_target_losses_total", "model", MODEL),
            "{{draft}} left": _rate("paceline_draft_streams_moved_total", "draft", POOL),
        },
        "ops",
        "Failovers: streams that lost their target and looked for an equal one. And streams that "
        "left a pool for a better one.",
        "Failovers without a rollout: see why targets end, `kubectl logs --previous`.",
    ),
)
_SERVERS = (
    Panel(
        "Servers ready",
        {
            "targets of {{model}}": f"min by (model) (paceline_model_targets_ready{{{MODEL}}})",
            "drafts of {{draft}}": f"min by (draft) (paceline_drafts_ready{{{POOL}}})",
        },
        "none",
        "Servers that can be used, as the orchestrator sees it that sees fewest.",
        "0: see PacelineModelGone and PacelineDraftsGone.",
    ),
    Panel(
        "KV use",
        {
            "{{instance}}": "paceline_engine_kv_pages_used / paceline_engine_kv_pages",
            "fullest target": "max(paceline_kv_cache_usage_perc)",
        },
        "percentunit",
        "Share of KV promised to streams, of each target and draft.",
        "Above 0.9 for long: see PacelineKvNearlyFull.",
    ),
    Panel(
        "Sessions that wait",
        {
            "{{instance}} for KV": "paceline_engine_waiting",
            "{{instance}} for a step": "paceline_engine_queued",
        },
        "none",
        "Sessions in the queue for KV, and those that the last step had no room for.",
        "For KV: see PacelineStreamsWait. For a step: raise `--max-batched-tokens`, add replicas.",
    ),
    Panel(
        "Wait for KV",
        _quantiles("paceline_engine_queue_time_seconds", ""),
        "s",
        "For how long sessions waited for KV before their first step; nearly all wait 0.",
        "The queue's bound is `--max-wait-seconds`.",
    ),
    Panel(
        "Preemptions",
        {"{{instance}}": "rate(paceline_engine_preemptions_total" + RATE + ")"},
        "ops",
        "Sessions per second that gave up their KV to others half way, and compute it again.",
        "More than now and then: outputs outgrow KV. Raise `--kv-tokens` or `--kv-reserve-tokens`.",
    ),
    Panel(
        "Prefix cache",
        {
            "{{instance}}": (
                f"rate(paceline_prefix_cache_hits_total{RATE}) / "
                f"rate(paceline_prefix_cache_queries_total{RATE})"
            )
        },
        "percentunit",
        "Share of the tokens that sessions opened with whose KV was there.",
        "Low though prompts are alike: they differ near their beginning, or KV is too small.",
    ),
    Panel(
        "Step of an engine",
        {
            "{{instance}}": (
                f"rate(paceline_engine_step_seconds_sum{RATE}) / "
                f"rate(paceline_engine_step_seconds_count{RATE})"
            )
        },
        "s",
        "Mean time of a forward pass of all sessions together.",
        "It grows with the tokens in a step: streams, draft tokens and prompts.",
    ),
    Panel(
        "Calls that ended with an error, by code",
        {"{{method}} {{code}}": _rate("paceline_rpcs_total", "method, code", 'code!="OK"')},
        "ops",
        "Calls per second that ended with another gRPC status than OK, by method.",
        "INTERNAL is a bug. UNAVAILABLE: servers went away. INVALID_ARGUMENT: a client's.",
        stacked=True,
    ),
    Panel(
        "CPU",
        {"{{instance}}": f"rate(process_cpu_seconds_total{RATE}) {OURS}"},
        "cores",
        "Cores that each server uses.",
        "An orchestrator near 1: add replicas; its event loop is one thread.",
    ),
    Panel(
        "Memory",
        {"{{instance}}": f"process_resident_memory_bytes {OURS}"},
        "bytes",
        "Resident memory of each server.",
        "It rises while a model loads and is flat then. A rise that goes on is a leak: report it.",
    ),
)


def _scoped(query: str) -> str:
    """Each of its series that of the install that is chosen."""
    chosen = re.sub(r"\b((?:paceline|process)_\w+)(?:\{(.*?)\})?", rf"\1{{{INSTALL},\2}}", query)
    return chosen.replace(",}", "}")


_ALL = {
    "Overview": _OVERVIEW,
    "Latency": _LATENCY,
    "Speculation": _SPECULATION,
    "Servers": _SERVERS,
}
ROWS = {
    title: tuple(
        replace(one, queries={legend: _scoped(query) for legend, query in one.queries.items()})
        for one in panels
    )
    for title, panels in _ALL.items()
}
PANELS = tuple(panel for panels in ROWS.values() for panel in panels)


ALL_CHOSEN = dict.fromkeys(("namespace", "job", "model", "pool"), ".*")
"""Variables of the dashboard."""


def filled(query: str, interval: str) -> str:
    """A query as Grafana sends it where all installs, models and pools are chosen."""
    for name, value in {**ALL_CHOSEN, "__rate_interval": interval}.items():
        query = query.replace(f"${name}", value)
    return query
