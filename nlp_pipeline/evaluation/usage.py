"""Python code for the model card that uses a saved model without this package; `PATH_OF_THIS_FOLDER` is the model's."""


def pipeline_code(task: str, function: str, arguments: str) -> str:
    """transformers' pipeline.

    Args:
        task: its name there.
        function: what the pipeline does, as the name of a variable.
        arguments: what it is called with, as code.
    """
    return (
        f'from transformers import pipeline\n\n{function} = pipeline("{task}", model="PATH_OF_THIS_FOLDER")\n'
        f"print({function}({arguments}))"
    )


def encoder_decoder_code(before: str) -> str:
    """Generation by an encoder-decoder.

    Args:
        before: what every source begins with, may be nothing.
    """
    return (
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n\n"
        'folder = "PATH_OF_THIS_FOLDER"\n'
        "tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)\n"
        f'inputs = tokenizer({f"{before!r} + " if before else ""}"a text of your own", return_tensors="pt")\n'
        "print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))"
    )


MULTIPLE_CHOICE = """\
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
model = AutoModelForMultipleChoice.from_pretrained("PATH_OF_THIS_FOLDER")
choices = ["one choice", "another one"]
inputs = tokenizer(["the prompt"] * len(choices), choices, padding=True, return_tensors="pt")
print(model(**{name: tensor[None] for name, tensor in inputs.items()}).logits)"""
"""transformers has no pipeline for this task."""

CROSS_ENCODER = """\
from sentence_transformers import CrossEncoder

model = CrossEncoder("PATH_OF_THIS_FOLDER")
print(model.predict([("a query", "a text"), ("a query", "another")]))"""

EMBEDDING = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH_OF_THIS_FOLDER")
vectors = model.encode(["a text", "another one"])
print(model.similarity(vectors, vectors))"""

LOGISTIC_HEAD = """\
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH_OF_THIS_FOLDER")
head = load_file("PATH_OF_THIS_FOLDER/logistic_head.safetensors")
logits = model.encode(["a text of your own"]) @ head["weight"].T + head["bias"]
print([model[0].auto_model.config.id2label[i] for i in logits.argmax(1)])"""
"""The head is a matrix and a vector."""
