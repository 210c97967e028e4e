#!/usr/bin/env python
"""What `accelerate launch` is given: the same as `nlp-pipeline evaluate`.

accelerate launch --config_file accelerate_configs/cpu_2_processes.yaml scripts/evaluate_run.py runs/x test.csv
"""

# Not called evaluate.py: a script's own folder comes first among the import paths, where that name would hide the
# package `evaluate`.
import sys

from nlp_pipeline.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
