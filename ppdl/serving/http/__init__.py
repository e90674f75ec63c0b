"""HTTP around the server: limits, logs, metrics, its own description."""
