"""Notebook 22: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {}

ALTERNATIVES = {}
