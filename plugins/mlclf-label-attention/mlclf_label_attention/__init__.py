"""Heads of mlclf in which every label reads the tokens with an attention of its own."""
