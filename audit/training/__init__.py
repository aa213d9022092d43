"""Training of sparse autoencoders: text to residual activations to weights with a card."""
