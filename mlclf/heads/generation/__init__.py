"""The head ``prompt-generation``: a language model writes the labels, and can write nothing else."""
