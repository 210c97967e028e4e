"""A model behind HTTP: `nlp-pipeline serve`, and folders for hosts that serve by themselves (`nlp-pipeline package`).

The straight line of a request: `guard` (who asks, how much, how fast) → a route of `app` → `shapes`, which make rows
of it → `batcher`, which gathers the rows of all clients → `model`, which predicts as `nlp-pipeline predict` does → the
shape again, which words the answer.
"""
