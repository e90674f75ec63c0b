"""Inner products of encrypted features with a server's weights."""
