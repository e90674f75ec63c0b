"""From raw images to prepared arrays: quality, duplicates, split."""
