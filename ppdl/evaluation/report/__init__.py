"""The reports below reports/."""
