"""What MLflow is told of runs, and what is read of them again."""
