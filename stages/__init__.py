"""One short script a stage: read the configuration, call ppdl, write what dvc.yaml lists."""
