"""`make diagnose`: what is wrong with a quantized network, layer by layer, and advice."""
