"""The door for inference gateways: vllm.grpc.engine.VllmEngine, as the smg gateway calls it.

An orchestrator is to a gateway what a vLLM server is, so that its OpenAI and Anthropic endpoints,
tool and reasoning parsers and its balancing stand before any number of orchestrators. The gateway
tokenizes and makes text itself: ids come in, ids go out. The stubs are those of PyPI's
smg-grpc-proto.
"""
