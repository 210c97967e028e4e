"""A tiny finished run to push."""

from nlp_pipeline import TextClassification

ROWS = [{"text": f"the card {i} is late", "label": "ab"[i % 2]} for i in range(12)]


def finished_run(model, folder, **settings):
    recipe = TextClassification(
        model=model, train=ROWS, test=ROWS, max_steps=2, precision="fp32", dir=str(folder), **settings
    )
    recipe.run(progress=False)
    return folder
