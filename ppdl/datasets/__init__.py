"""X-rays: where they come from, and how they become prepared arrays."""
