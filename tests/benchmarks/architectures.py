"""Which mixer predicts best: equal time, equal parameters, three seeds, at 1,024 and 8,192 bp.

    python tests/benchmarks/architectures.py -g ce10.fa.gz -g sacCer3.fa.gz -g human_contigs.fa.gz \
        --seconds 30 --seeds 3 -o OUT/architectures.jsonl

HyenaDNA's form at orders 2 to 4, the paper's form at orders 1 to 3, and attention, in the same backbone of two layers
of width 128. What a mixer has more or fewer parameters than the Hyena of order 2, the MLP has fewer or more: its width
brings each model within one percent of the same number. Run it again to go on; see `trials.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from trials import Trial, add_options, run_all

from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA

_WIDTH, _LAYERS, _MLP = 128, 2, 512
_FILTERS = {"filter_waves": "octaves", "filter_emb_dim": "21"}
# Tensor cores take other widths of an MLP at half the speed.
_STEP = 16
_MIXERS: dict[str, dict[str, str]] = {
    **{f"hyena-{order}": {"order": str(order)} for order in (2, 3, 4)},
    **{f"paper-{order}": {"order": str(order), "leading_conv": "true"} for order in (1, 2, 3)},
    "attention": {"mixer": "attention"},
}


def parameters(d_inner: int, mixer: dict[str, str]) -> int:
    """Parameters of a model of the table."""
    content = {"d_model": _WIDTH, "n_layer": _LAYERS, "max_length": 1026, "d_inner": d_inner, **_FILTERS, **mixer}
    with torch.device("meta"):
        return sum(value.numel() for value in HyenaDNA(HyenaConfig.model_validate(content)).parameters())


def mlp_width(mixer: dict[str, str]) -> int:
    """The width of the MLP that gives a model with this mixer as many parameters as the Hyena of order 2 has."""
    wanted, base, slope = parameters(_MLP, _MIXERS["hyena-2"]), parameters(8, mixer), _LAYERS * (2 * _WIDTH + 1)
    return max(_STEP, _STEP * round((8 + (wanted - base) / slope) / _STEP))


def trials(lengths: list[int]) -> Iterator[Trial]:
    """All mixers at each length."""
    for length in lengths:
        for name, mixer in _MIXERS.items():
            model = {
                "max_length": length + 2,
                "d_model": _WIDTH,
                "n_layer": _LAYERS,
                "d_inner": mlp_width(mixer),
                **_FILTERS,
                **mixer,
            }
            changes = [f"data.window={length}", "optim.length_warmup=[]"]
            yield Trial(f"{name}@{length}", (*(f"model.{key}={value}" for key, value in model.items()), *changes))


def main() -> None:
    """Run or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 8192], help="bp")
    add_options(parser)
    arguments = parser.parse_args()
    run_all(arguments, trials(arguments.lengths))


if __name__ == "__main__":
    main()
