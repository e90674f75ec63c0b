"""Networks, what they are fed, and how they are fitted."""
