"""Probe suites: the situations that an audit puts to a model."""
