"""Measures, intervals and tests of predictions."""
