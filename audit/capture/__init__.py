"""The room that runs models and SAEs; the only one that imports torch and transformers."""
