#!/usr/bin/env python
"""The same as `nlp-pipeline predict`.

python scripts/predict.py runs/x new.csv
"""

import sys

from nlp_pipeline.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
