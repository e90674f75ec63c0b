"""What trained runs say of test images, and how it is reported."""
