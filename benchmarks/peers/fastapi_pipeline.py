#!/usr/bin/env python
"""What one would write in ten minutes: FastAPI around transformers.pipeline, one text a call.

`--mode threads` is a plain `def` route, which FastAPI runs in its 40 threads; `--mode loop` an `async def` route, which
answers one request after the other.

  python benchmarks/peers/fastapi_pipeline.py --model RUN/model --port 8001
"""

import argparse

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Body(BaseModel):
    inputs: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--mode", choices=["threads", "loop"], default="threads")
    args = parser.parse_args()
    classify = pipeline("text-classification", model=args.model)
    app = FastAPI()

    if args.mode == "threads":

        @app.post("/")
        def infer(body: Body) -> list[dict[str, object]]:
            return classify(body.inputs, truncation=True)
    else:

        @app.post("/")
        async def infer(body: Body) -> list[dict[str, object]]:
            return classify(body.inputs, truncation=True)

    uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
