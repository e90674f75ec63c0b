"""Trained networks at work: what one expects of a new image, the same steps as in training, and calibrated probabilities."""
