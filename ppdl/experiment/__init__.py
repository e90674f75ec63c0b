"""From the configuration to trained, evaluated and reported runs."""
