"""What is wrong with a quantized network, layer by layer: figures, findings and advice."""
