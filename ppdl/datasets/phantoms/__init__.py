"""Drawn chest X-rays: body, lungs and findings."""
