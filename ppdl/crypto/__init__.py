"""Paillier: keys, numbers, files of ciphertexts, encryption of image sets, inner products, workers."""
