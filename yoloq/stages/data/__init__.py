"""`make data`."""
