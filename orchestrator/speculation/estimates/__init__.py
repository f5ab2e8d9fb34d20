"""What is measured and expected: acceptance, times, speed-ups. Pure.

acceptance: how likely a draft token is accepted. batch_load, round_times, stream_speed: of one
stream. measurements, speedup: of a draft, by all streams together. counts: what is shown of it.
"""
