"""What files hold: written whole or not at all, and checked for type."""
