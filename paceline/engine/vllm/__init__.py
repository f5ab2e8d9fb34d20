"""vLLM as the forward pass: its kernels, paged KV, quantization and parallelism behind our Runner.

All that touches vLLM is in this folder, and only engine_core, worker_extension and scheduler import
it. vLLM's interfaces are not stable: version.py has the releases that are tested.
"""
