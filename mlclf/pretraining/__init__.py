"""A small language model from texts alone: tokenizer, weights and the folder that a backbone loads."""
