"""What an attacker may see, how an attack is scored, and the verdict."""
