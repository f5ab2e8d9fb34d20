"""What was decided for channels and servers: keepalive, limits, no retries and no balancing."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of a message on any link, unless below; of a compressed one, of what it unpacks to."""
CLIENT_REQUEST_BYTES = CLIENT_ANSWER_BYTES = MAX_MESSAGE_BYTES
"""Between client and orchestrator: prompts as text; logprobs, ids and names of models."""
ENGINE_REQUEST_BYTES = MAX_MESSAGE_BYTES
"""From orchestrator to target or draft: prompts as ids, and maps of vocabularies."""
TARGET_ANSWER_BYTES = MAX_MESSAGE_BYTES
"""From target to orchestrator: logprobs, and pieces of tokenizers."""
DRAFT_ANSWER_BYTES = 2 * 1024 * 1024
"""From draft to orchestrator: draft tokens, and pieces of tokenizers."""
HEALTH_REQUEST_BYTES = 64 * 1024
"""On the health port."""
MAX_METADATA_BYTES = 8 * 1024
"""Names, values and 32 bytes for each. gRPC refuses some of what is over one limit, and all of what
is over a second; they are the same here, so that timing does not decide."""
CONNECT_MS = 5_000
"""A connection attempt is given up after this long: TCP has then asked three times."""
RECONNECT_MS = 250
"""Pauses between attempts grow to this: what is back is found as soon, and streams wait for it."""
KEEPALIVE_MS = 30_000
"""Where nothing came for so long a server asks whether its caller is there, for half as long."""
CHANNEL_KEEPALIVE_MS = 10_000
"""The same of a caller, whose streams wait meanwhile."""
_CONNECTION_AGE_MS = 5 * 60 * 1000

Options = list[tuple[str, int | str]]


def channel_options(answer_bytes: int, proxy: str = "") -> Options:
    """Of every channel. Retrying and balancing are the orchestrator's, never gRPC's.

    answer_bytes: of the largest message that is taken. proxy: the HTTP proxy to connect through,
    as http://host:port; none unless given.
    """
    return [
        *_keepalive(CHANNEL_KEEPALIVE_MS),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", answer_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        # The environment's http_proxy is meant for the web, and knows no way to these servers.
        *([("grpc.http_proxy", proxy)] if proxy else [("grpc.enable_http_proxy", 0)]),
        # Channels to one address stay apart, so that closing or losing one is that one's alone.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
        # This is how long an attempt may take, whose answer is several network latencies away. One
        # that is refused ends at once, so that reconnecting stays quick.
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
    ]


def server_options(
    *, public: bool, request_bytes: int = ENGINE_REQUEST_BYTES, shared: bool = False
) -> Options:
    """Of every server; a public one also closes old connections, so that clients spread.

    Their grace is unlimited: a finite one would kill live streams. request_bytes: of the largest
    message that is taken. shared: others that say so too may listen at the same port.
    """
    options: Options = [
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        # Who is gone without a word, or stands still, holds its calls and sessions for no longer.
        *_keepalive(KEEPALIVE_MS),
        # A starved server reads pings late and bunched: no connection is closed for that.
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_receive_message_length", request_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        # Unless told otherwise a second server on the same port must fail, not share it.
        ("grpc.so_reuseport", int(shared)),
    ]
    if public:
        options.append(("grpc.max_connection_age_ms", _CONNECTION_AGE_MS))
    return options


def _keepalive(idle_ms: int) -> Options:
    """Ask who is silent for so long, and wait half as long for the answer."""
    return [
        ("grpc.keepalive_time_ms", idle_ms),
        ("grpc.keepalive_timeout_ms", idle_ms // 2),
        ("grpc.http2.ping_timeout_ms", idle_ms // 2),  # else it is a minute, whatever is above
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
