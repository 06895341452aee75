"""How good generated pictures are: distances between sets of features."""
