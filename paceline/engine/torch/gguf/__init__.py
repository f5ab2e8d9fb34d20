"""GGUF files read by their own rules: metadata, tokenizer, weights; what is unknown is refused."""
