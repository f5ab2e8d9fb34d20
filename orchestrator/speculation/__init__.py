"""Policy of speculative decoding: when to speculate, how far, with whose drafts. Pure.

To read it in order:
- acceptance: how likely a draft token is accepted.
- plan: what a round waits for and what it verifies.
- planner, stream_costs, draft_length: the plan of a stream, alone and beside others, and what pays.
- adaptive_pacer, pausing: when a stream speculates, pauses and probes. pacer: the interface.
- batch_load, round_times, stream_speed: what is measured of a stream.
- measurements, speedup: what all streams together measure of a draft.
- pool_choice, pool_pacer: which pool of drafts a stream gets, and how it is paced when it moves.
- draft_buffer, lookahead, expectation, due_times: the draft tokens of a session, those that are to
  come, and what its draft is told.
- counts: what is shown of all this.
"""
