"""`python -m course bench`: ours and the library one would use instead, in turn, in one run."""
