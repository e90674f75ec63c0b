"""What a job will cost, from measurements of a second."""
