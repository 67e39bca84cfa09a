"""`make table`."""
