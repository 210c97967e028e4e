"""`nlp-pipeline init`: looks at a data file, guesses task and columns, and writes a recipe that trains as it is."""

from .writing import write_recipe

__all__ = ["write_recipe"]
