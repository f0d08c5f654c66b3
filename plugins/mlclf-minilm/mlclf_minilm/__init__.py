"""The sentence encoder all-MiniLM-L6-v2 as a backbone of mlclf."""
