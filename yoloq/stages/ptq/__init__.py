"""`make ptq`."""
