"""Differential privacy of a pooled head: what a run promises, and the noise that each hospital adds to its sums."""
