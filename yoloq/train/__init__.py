"""Training: the epoch loop, its state, samples, optimizers and losses."""
