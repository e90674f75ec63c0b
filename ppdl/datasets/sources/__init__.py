"""Where images come from: a class for each source."""
