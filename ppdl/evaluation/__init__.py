"""What runs said of test images: measures with intervals, insight, figures, the report."""
