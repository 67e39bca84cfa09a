"""`make search --bits`: bits of each layer within a budget of bytes, bit operations or time."""
