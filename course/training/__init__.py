"""One training loop, named recipes, and checkpoints that survive."""
