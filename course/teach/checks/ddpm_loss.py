"""Checks of notebook 22."""
