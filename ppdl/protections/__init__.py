"""How images are protected, and what a network is fed of them."""
