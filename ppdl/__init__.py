"""Learning from Paillier-encrypted medical images: pipeline, attacks, and a library of Paillier arithmetic (`ppdl.crypto`)."""

__version__ = "0.1.0"
