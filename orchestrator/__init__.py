"""The orchestrator: rounds between draft and target, streams to clients."""
