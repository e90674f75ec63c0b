"""What a run sums: of each kind of sums how a hospital makes its integers, how large they grow, and what the opened ones must be."""
