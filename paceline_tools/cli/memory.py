"""What a server's model and KV take, and how many streams that is. Pure."""

from collections.abc import Iterator

from paceline.protocol.model import KVSize, ModelInfo
from paceline.protocol.status import Server
from paceline_tools.cli.findings import Finding, Level

STREAM_TOKENS = 2048
"""Of a stream, prompt and output together, by which room is told."""
_GIB = 1024**3


def memory(server: Server) -> Iterator[Finding]:
    """Of one that says what it has."""
    model = server.model
    if not server.reachable or model is None or model.kv is None:
        return
    subject = f"memory of {server.role.value} {server.address}"
    if model.kv.is_none:
        what = f"no KV, as it drafts without a model: {_streams(model, model.kv)}"
        yield Finding(Level.OK, subject, what)
        return
    yield Finding(Level.OK, subject, "; ".join((*_bytes(model), _streams(model, model.kv))))
    if (missing := _missing(server, model, model.kv)) > 0:
        what = f"KV may grow by {_gib(missing)} more than the machine has left"
        yield Finding(Level.WRONG, subject, what, "give it more memory, or lower --kv-tokens")


def _bytes(model: ModelInfo) -> Iterator[str]:
    if (found := model.memory) is None:
        return
    copies = f", their quantized copies {_gib(found.quantized_bytes)}"
    yield f"weights {_gib(found.weight_bytes)}{copies if found.quantized_bytes else ''}"
    if model.kv is not None:
        yield f"KV up to {_gib(_kv_bytes(model, model.kv.pages))}"


def _streams(model: ModelInfo, kv: KVSize) -> str:
    """How much KV is for new streams, and how many of some length have room at once."""
    pages = kv.pages_for(resumes=False)
    length = min(STREAM_TOKENS, model.max_positions)
    streams = pages // kv.pages_of(length)
    if kv.page_tokens >= model.max_positions:  # as of lookup: no stream fills its page
        return f"room for {streams:,} streams"
    tokens, kept = pages * kv.page_tokens, kv.reserve * kv.page_tokens
    room = f"room for {tokens:,} tokens: {streams:,} streams of {length:,} at once"
    return f"{room}; {kept:,} more are for streams that resume" if kept else room


def _missing(server: Server, model: ModelInfo, kv: KVSize) -> int:
    """Bytes that all KV would take beyond what is left, where it lies in the machine's memory."""
    if server.machine is None or model.cores is None or not model.cores.cpus:
        return 0
    grows = _kv_bytes(model, kv.pages - server.load.kv_pages_used)
    return grows - server.machine.memory_available_bytes


def _kv_bytes(model: ModelInfo, pages: int) -> int:
    if model.memory is None or model.kv is None:
        return 0
    return pages * model.kv.page_tokens * model.memory.kv_token_bytes


def _gib(count: int) -> str:
    return f"{count / _GIB:.2f} GiB"
