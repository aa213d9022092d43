"""Turns findings into a report for people: one frozen view, printed as one HTML file and as a tagged PDF."""
