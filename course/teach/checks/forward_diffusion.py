"""Checks of notebook 21."""
