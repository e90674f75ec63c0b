"""Paillier on numbers: obfuscators, packing, encryption and decryption in batches, linear maps on ciphertexts."""
