"""Files that `nlp-pipeline package` puts beside a model, as its host expects them."""
