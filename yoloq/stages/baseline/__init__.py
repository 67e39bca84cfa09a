"""`make baseline`."""
