"""A strategy of mlclf that trains normalisation layers alone."""
