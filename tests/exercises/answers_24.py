"""Notebook 24: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {}

ALTERNATIVES = {}
