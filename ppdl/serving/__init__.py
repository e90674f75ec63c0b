"""Private inference over HTTP: a server that holds a head, clients that hold keys."""
