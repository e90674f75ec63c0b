"""Figures. None touches a file."""
