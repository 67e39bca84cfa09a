"""`make sensitivity`: which layers hurt, and the search for a policy."""
