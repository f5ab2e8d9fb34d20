"""The sampler on the model's device: paceline.engine.sampling, for all rows of a step at once."""
