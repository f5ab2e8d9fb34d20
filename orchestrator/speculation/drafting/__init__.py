"""What the draft of a stream is told, what it has proposed and what is still to come. Pure.

draft_buffer: draft tokens at hand. expectation, due_times: when others come, and when they are
wanted. lookahead: how far the draft may run ahead, and what it is told.
"""
