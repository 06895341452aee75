"""Image generation from scratch: the models, the mathematics and the tools of the course."""
