"""Networks, what they are fed, and what they answer."""
