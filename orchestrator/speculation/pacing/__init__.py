"""When a stream speculates, how far, and how long it waits. Pure.

plan: what a round waits for and what it verifies. planner, stream_costs, draft_length: the plan of
a stream, alone and beside others, and what pays. pacer: the interface. adaptive_pacer, pausing:
when a stream speculates, pauses and probes. pool_pacer: the same when it moves to another pool.
"""
