"""affidavit: audit a language model through its sparse autoencoder and seal the evidence."""

__version__ = "0.1.0"
