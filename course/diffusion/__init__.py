"""The forward process, its posterior, the bound and the samplers."""
