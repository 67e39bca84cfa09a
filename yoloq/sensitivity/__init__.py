"""Which layers hurt: candidates, the sweep over them, ranking, and the search for a policy."""
