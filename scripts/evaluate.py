#!/usr/bin/env python
"""What `accelerate launch` is given: the same as `nlp-pipeline evaluate`.

accelerate launch --config_file accelerate_configs/cpu_2_processes.yaml scripts/evaluate.py runs/x test.csv
"""

import sys

from nlp_pipeline.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
