"""The built-in strategies, a file each: which weights of a backbone learn, and how fast."""
