"""The sections of a recipe, a module for each group; `nlp_pipeline.config.schema` has them all."""
