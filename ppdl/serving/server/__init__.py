"""The server of private inference."""
