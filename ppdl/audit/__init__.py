"""Attacks on protected images: what somebody without the private key, and without the images, gets out of them."""
