"""`make engine`."""
