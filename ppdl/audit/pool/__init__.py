"""What the sums of several hospitals, and the head that follows from them, give away: to each party its own attacks."""
