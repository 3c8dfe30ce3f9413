"""Write toy cosmic tracks: ``python -m drift_chamber OUT --tracks 100000``."""

import argparse

from drift_chamber.toys import write

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--tracks", type=int, default=100_000)
parser.add_argument("--seed", type=int, default=1)
chosen = parser.parse_args()
write(chosen.out, chosen.tracks, seed=chosen.seed)
