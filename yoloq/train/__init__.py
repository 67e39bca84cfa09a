"""Training: the epoch loop, its state, samples, optimizers and losses."""

SCRATCH = ("", "scratch")  # what stands for weights where training starts from random ones
