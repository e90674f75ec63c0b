"""What happens to ciphertexts on the way to a network: public filters, and what the key holder reveals."""
