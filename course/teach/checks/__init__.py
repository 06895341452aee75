"""The checks of every exercise, one module per notebook."""

from course.teach.checks import sampling, start_here, vae, vae_digits
from course.teach.exercise import Exercise

EXERCISES: dict[str, Exercise] = {
    found.name: found
    for notebook in (start_here, sampling, vae, vae_digits)
    for found in vars(notebook).values()
    if isinstance(found, Exercise)
}
