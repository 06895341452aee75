"""Checks of notebook 23."""
