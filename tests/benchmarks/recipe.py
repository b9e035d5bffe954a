"""How to train the bundled models: one change at a time to a shipped configuration, at equal seconds.

    python tests/benchmarks/recipe.py -g ce10.fa.gz -g sacCer3.fa.gz -g human_contigs.fa.gz \
        --seconds 20 -o OUT/recipe.jsonl [--only base,lr] [--also NAME KEY=VALUE ...]

Selection is by the validation pieces alone; the test pieces are printed beside them. Run it again to go on, and with
`--also` to combine what helped; see `trials.py`. `--only shape` at `--config release-small` compares width and depth
on windows of 1,024 bp.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from trials import Trial, add_options, run_all

_ALTERNATIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "lr": {value: (f"optim.lr={value}",) for value in ("1e-3", "4e-3", "8e-3")},
    "filter_lr": {value: (f"optim.filter_lr={value}",) for value in ("5e-4", "4e-3")},
    "batch": {value: (f"optim.batch_tokens={value}",) for value in ("65536", "262144", "524288")},
    "decay": {value: (f"optim.weight_decay={value}",) for value in ("0.0", "0.3")},
    "betas": {"0.999": ("optim.betas=[0.9, 0.999]",)},
    "warmup": {"0.05": ("optim.warmup_fraction=0.05",)},
    "mixture": {
        human: (f"data.genome_weights={{ce10: {worm}, sacCer3: 0.1, human_contigs: {human}}}",)
        for human, worm in (("0.35", "0.55"), ("0.75", "0.15"))
    },
    "strands": {"forward": ("data.reverse_complement=false",)},
    "soft": {value: (f"data.weight_soft_masked={value}",) for value in ("0.5", "0.1")},
    "shift": {"0.0": ("model.modulation_shift=0.0",)},
    "window": {value: (f"model.modulation_fast_decay={value}",) for value in ("0.03", "0.003")},
    "bands": {value: (f"model.filter_emb_dim={value}",) for value in ("11", "31")},
    "waves": {
        f"linear-{value}": ("model.filter_waves=linear", f"model.filter_emb_dim={value}") for value in ("5", "65")
    },
    "rates": {"geometric": ("model.modulation_rates=geometric", "model.modulation_fast_decay=0.003")},
    "frequency": {value: (f"model.filter_freq={value}",) for value in ("1.0", "30.0")},
    "order": {"3": ("model.order=3",)},
    "short": {value: (f"model.short_filter_length={value}",) for value in ("4", "7")},
    "dropout": {"0.1": ("model.embed_dropout=0.1",)},
    "length": {
        value: (f"data.window={value}", f"model.max_length={int(value) + 2}", "optim.length_warmup=[]")
        for value in ("512", "4096")
    },
    "shape": {
        f"{layers}x{width}": (
            f"model.n_layer={layers}",
            f"model.d_model={width}",
            f"model.d_inner={4 * width}",
            "data.window=1024",
            "optim.length_warmup=[]",
        )
        for layers, width in ((2, 128), (4, 96), (4, 128), (2, 256), (4, 256), (6, 208), (8, 176))
    },
}


def trials() -> Iterator[Trial]:
    """The configuration as it is, and each change to it."""
    yield Trial("base")
    for factor, alternatives in _ALTERNATIVES.items():
        for name, changes in alternatives.items():
            yield Trial(f"{factor}:{name}", changes)


def main() -> None:
    """Run or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--also", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"), help="one more trial"
    )
    add_options(parser)
    arguments = parser.parse_args()
    run_all(arguments, [*trials(), *(Trial(name, tuple(changes)) for name, *changes in arguments.also)])


if __name__ == "__main__":
    main()
