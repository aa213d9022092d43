"""Training: sparse autoencoders from text to weights with a card, and fine-tuned models whose difference is known."""
