"""A classifier of encrypted images: the client encrypts features, the server evaluates a secret linear head on ciphertexts."""
