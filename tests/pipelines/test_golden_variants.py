"""The scored VCF of the example set's last contig is what was committed: fields, statuses, statistics, every number.

`python -m tests.pipelines.test_golden_variants` writes the golden file anew; look at what changed before committing it.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hyena_dna.model.checkpoint import save_model
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.model import HyenaDNA
from hyena_dna.output.score_fields import INFO_FIELDS
from pipelines import score_variants

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "data" / "example"
GOLDEN = ROOT / "tests" / "golden" / "variants" / "example_chr6.vcf"
TOLERANCE = 1e-4
"""Nats, of scores up to about ten: float32 on another processor."""


def scored(folder: Path) -> list[str]:
    """Score the variants of chr6 by a model whose weights are the same numbers everywhere."""
    torch.manual_seed(0)
    model = HyenaDNA(HyenaConfig(d_model=16, n_layer=2, max_length=258, filter_order=16))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1 and "freq" not in name:
                parameter.copy_(torch.from_numpy(rng.normal(0, 0.2, tuple(parameter.shape)).astype(np.float32)))
    save_model(model, folder / "model")
    lines = gzip.decompress((EXAMPLE / "variants.vcf.gz").read_bytes()).decode().splitlines(keepends=True)
    vcf = folder / "chr6.vcf"
    vcf.write_text("".join(line for line in lines if line.startswith(("#", "chr6\t"))))
    args = ["--model", str(folder / "model"), "--genome", str(EXAMPLE / "genome.fa.gz"), "--vcf", str(vcf)]
    args += ["--window", "256", "--scored-span", "64", "--device", "cpu", "-o", str(folder / "out.vcf")]
    assert score_variants.command.main(args, standalone_mode=False) == 0
    return [line for line in (folder / "out.vcf").read_text().splitlines() if not line.startswith("##hyena-dna")]


def test_the_example_scores_as_committed(tmp_path: Path) -> None:
    found, expected = scored(tmp_path), GOLDEN.read_text().splitlines()
    assert len(found) == len(expected) > 150
    statuses = set()
    for line, golden in zip(found, expected, strict=True):
        if golden.startswith("#"):
            assert line == golden
            continue
        fields, wanted = line.split("\t"), golden.split("\t")
        assert fields[:7] + fields[8:] == wanted[:7] + wanted[8:]
        for item, other in zip(fields[7].split(";"), wanted[7].split(";"), strict=True):
            key, _, value = item.partition("=")
            assert key == other.partition("=")[0]
            if INFO_FIELDS.get(key, ("",))[0] != "Float":
                assert item == other
                statuses.add(value if key == "HYENA_STATUS" else "")
                continue
            pairs = zip(value.split(","), other.partition("=")[2].split(","), strict=True)
            for one, two in pairs:
                assert (one == ".") == (two == ".")
                if one != ".":
                    assert float(one) == pytest.approx(float(two), abs=TOLERANCE, rel=TOLERANCE)
    assert {"ok", "ok,ok"} <= statuses


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        GOLDEN.write_text("\n".join(scored(Path(name))) + "\n")
