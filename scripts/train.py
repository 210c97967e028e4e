#!/usr/bin/env python
"""What `accelerate launch` is given: the same as `nlp-pipeline train`.

accelerate launch --config_file accelerate_configs/cpu_2_processes.yaml scripts/train.py recipes/x.yaml key.sub=value
"""

import sys

from nlp_pipeline.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
