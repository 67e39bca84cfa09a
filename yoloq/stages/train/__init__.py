"""`make train`."""
