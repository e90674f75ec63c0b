"""The prepared arrays, as every later stage reads them."""
