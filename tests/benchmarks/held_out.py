"""Bits per base of a whole held-out piece: windows one after the other, forward strand, float32.

    python tests/benchmarks/held_out.py --model small --window 32768 ce10.fa.gz chrII:12279346-15279345
    python tests/benchmarks/held_out.py --model small --window 32768 sacCer3.fa.gz chrIV
    python tests/benchmarks/held_out.py --model small --window 32768 human_contigs.fa.gz hg38_chr2:1166638-2333275

Regions are 1-based, as everywhere on the command line. What is left at the end and fills no window is not scored.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from hyena_dna import Interval, Reference, load_model
from hyena_dna.model.device import select_device
from hyena_dna.training.validation import validate


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", help="FASTA, plain or bgzipped")
    parser.add_argument("region", help="CONTIG or CONTIG:START-END")
    parser.add_argument("--model", default="small", help="what load_model takes")
    parser.add_argument("--window", type=int, default=1024, help="bp")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    model = load_model(arguments.model).to(select_device(arguments.device))
    with Reference(arguments.genome) as reference:
        interval = Interval.parse(arguments.region, reference.contigs)
        ids = model.tokenizer.encode(reference.fetch(interval))
    window = arguments.window
    # The last base of a window is the first that the next one is given.
    rows = np.lib.stride_tricks.sliding_window_view(ids, window + 1)[::window]
    found = validate(model, np.ascontiguousarray(rows))
    sys.stdout.write(f"{found.bits_per_base:.4f} bits per base, {found.bases:,} bases in {len(rows):,} windows\n")


if __name__ == "__main__":
    main()
