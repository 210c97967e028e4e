"""The data audit: what is wrong, or looks wrong, in the rows of a run. Importing this package loads no torch."""
