"""One file a protection: how images become ciphertexts, and ciphertexts network input."""
