"""Tests with vLLM itself, in an environment of their own: `make e2e-vllm`."""
