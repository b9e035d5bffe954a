"""How fast bases are sampled: one position at a time against a full pass for every base, side by side.

    python -m tests.benchmarks.generation --length 16384 --device cuda

The full passes are run at evenly spread lengths, in turn with nothing else running, and their mean stands for all of
them; `--whole` runs every one. Both methods read the same model with random weights.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from hyena_dna.inference.generate import Sampling, generate
from hyena_dna.inference.likelihood import high_precision
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.device import select_device
from hyena_dna.model.model import HyenaDNA


def main() -> None:
    """Print one line of JSON with both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--n-layer", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--passes", type=int, default=24, help="full passes that stand for all of them")
    parser.add_argument("--whole", action="store_true", help="run every full pass")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = select_device(given.device)
    torch.manual_seed(0)
    config = HyenaConfig(d_model=given.d_model, n_layer=given.n_layer, max_length=given.length + 2)
    model = HyenaDNA(config).eval().to(device)
    sampling = Sampling()
    generate(model, None, min(600, given.length), sampling=sampling)
    recurrent = []
    for _ in range(3):
        began = time.perf_counter()
        generate(model, None, given.length, sampling=sampling)
        recurrent.append(time.perf_counter() - began)
    count = given.length if given.whole else given.passes
    lengths = torch.linspace(1, given.length, count).round().long().tolist()
    ids = torch.randint(7, 11, (1, given.length), device=device)
    noise = torch.rand(1, device=device)
    times: list[float] = []
    with high_precision(device):
        for length in [lengths[-1], *lengths]:
            began = time.perf_counter()
            logits = model.hidden(ids[:, :length])[:, -1] @ model.lm_head.weight.T
            sampling.draw(logits, noise).cpu()

            times.append(time.perf_counter() - began)
    # The first was a warm-up.
    full = sum(times[1:]) / count * given.length
    best = min(recurrent)
    result = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "model": f"{given.n_layer} x {given.d_model}",
        "length": given.length,
        "recurrent_s": [round(value, 3) for value in recurrent],
        "us_per_base": round(best / given.length * 1e6, 1),
        "full_s": round(full, 2),
        "full_passes_run": count,
        "ratio": round(full / best, 1),
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
