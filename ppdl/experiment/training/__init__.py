"""How the runs of the configuration are trained."""
