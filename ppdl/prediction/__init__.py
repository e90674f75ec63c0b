"""A trained network with all steps before it, on images of this machine: as a folder, a package, a registered model."""
