"""`make auto`."""
