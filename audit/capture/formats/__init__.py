"""Readers of published SAE formats; each brings one layout into the canonical form of `audit.capture.sae`."""
