"""The client of private inference."""
