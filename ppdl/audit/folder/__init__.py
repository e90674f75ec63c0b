"""The audit of anybody's folder of protected images."""
