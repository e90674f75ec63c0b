"""What a run said of images, its calibration, and resampling by group."""
