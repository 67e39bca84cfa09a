"""Different bits in each layer: what they cost, what they lose, and the best of them in a budget.

The maths of `make search --bits`; it knows no files and no engine.
"""

SENSITIVITIES = ("fisher", "snr")
