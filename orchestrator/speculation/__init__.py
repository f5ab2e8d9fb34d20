"""Policy of speculative decoding: when to speculate, how far, with whose drafts. Pure.

estimates: how likely a draft token is accepted, what things take, what speculation brings.
drafting: what a draft has proposed, what is still to come, and what the draft is told.
pacing: when a stream speculates, pauses and probes; what a round waits for and verifies.
pool_choice: which pool of drafts a stream gets. reason: why a step is planned as it is.
"""
