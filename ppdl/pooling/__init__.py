"""One head of several hospitals, from encrypted sums over their films: the parties of a run, each in a module, and all in one process."""
