"""What the course learns from: real digits, toy distributions, and how files are fetched."""
