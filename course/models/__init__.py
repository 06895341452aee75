"""Every model of the course, written out."""
