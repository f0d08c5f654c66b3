"""Built-in heads, a file each."""
