"""MLflow's registry of models."""
