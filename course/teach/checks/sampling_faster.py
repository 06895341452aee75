"""Checks of notebook 24."""
