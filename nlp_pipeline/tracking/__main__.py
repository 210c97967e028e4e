"""`python -m nlp_pipeline.tracking RUN --to NAME [--follow]`: what a run starts for each of its trackers."""

import argparse
import sys
from pathlib import Path

from .follower import send

parser = argparse.ArgumentParser(prog="python -m nlp_pipeline.tracking")
parser.add_argument("run", type=Path)
parser.add_argument("--to", required=True)
parser.add_argument("--follow", action="store_true", help="until standard input ends")
parser.add_argument("--process", type=int, help="whose memory and processor time are read")
given = parser.parse_args()
sys.exit(send(given.run, given.to, given.follow, given.process))
