"""Whole sets of images to ciphertexts in an artifact."""
