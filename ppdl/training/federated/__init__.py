"""How hospitals train one network in turns: each from the round's weights, and what leaves it as flat vectors."""
