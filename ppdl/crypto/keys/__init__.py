"""Key pairs: numbers, files, the store of private keys, proofs that others can check."""
