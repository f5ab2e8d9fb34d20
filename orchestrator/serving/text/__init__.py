"""Text to token ids and token ids to text: tokenizer, chat template, detokenizer, stop strings."""
