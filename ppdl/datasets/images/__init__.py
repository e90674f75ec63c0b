"""One file to one array of gray values."""
