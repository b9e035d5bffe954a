"""Zero-shot scores of measured BRCA1 variants: do they tell loss of function from function?"""

from __future__ import annotations

import numpy as np
import pysam
from numpy.typing import NDArray

from hyena_dna.evaluation.metrics import evaluate
from hyena_dna.genome.reference import Reference
from hyena_dna.genome.variants import Variant
from hyena_dna.inference.variant_effects import score_variants
from hyena_dna.model.model import HyenaDNA
from hyena_dna.reproduction.table import Table, data_file

__all__ = ["brca1_table"]

_LEAST = 5


def brca1_table(model: HyenaDNA, folder: str, *, window: int, most: int | None = None) -> Table:
    """AUROC of LOF against FUNC by log-likelihood ratio and by distance, over all variants and by consequence.

    A variant counts as more harmful the less likely its allele is, or the farther the hidden states move. Nothing is
    fitted and nothing chosen. Consequences with fewer than five variants of either class are left out.

    Args:
        model: a float32 model, on its device.
        folder: holds `brca1_region.fa.gz` and `brca1_sge.vcf.gz` (Findlay et al. 2018).
        window: context in bp.
        most: variants to score, evenly spread; all by default.

    Raises:
        InputError: a file is not there, or the window does not fit the model.
    """
    genome, vcf = (data_file(folder, [f"brca1/{name}", name]) for name in ("brca1_region.fa.gz", "brca1_sge.vcf.gz"))
    with pysam.VariantFile(vcf) as records:
        rows = [
            (Variant(record.chrom, record.pos, str(record.ref), record.alts[0]), record.info["SGE_CLASS"],
             record.info["CONSEQUENCE"])
            for record in records
            if record.alts and record.info["SGE_CLASS"] in ("LOF", "FUNC")
        ]  # fmt: skip
    kept = min(most or len(rows), len(rows))
    rows = [rows[index * len(rows) // kept] for index in range(kept)]
    with Reference(genome) as reference:
        scores = score_variants(model, reference, [variant for variant, _, _ in rows], window=window)
    known = np.array([score.status.split("|")[0] == "ok" for score in scores])
    lost = np.array([kind == "LOF" for _, kind, _ in rows]).astype(np.int64)
    consequence = np.array([name for _, _, name in rows])
    methods = {
        "log-likelihood ratio": np.array([-score.llr for score in scores]),
        "distance": np.array([score.dist for score in scores]),
    }
    table = Table(
        f"BRCA1, loss of function against function, windows of {window:,} bp",
        ("variants", "LOF", "FUNC", *(f"AUROC, {name}" for name in methods)),
    )
    for name in ("all", *sorted(set(consequence))):
        chosen = known & ((consequence == name) | (name == "all"))
        positive = int(lost[chosen].sum())
        negative = int(chosen.sum()) - positive
        if min(positive, negative) < _LEAST:
            continue
        found = [
            evaluate("binary", ["FUNC", "LOF"], lost[chosen], _squash(values[chosen])[:, None], n_bootstrap=0)
            .metrics["auroc"].value
            for values in methods.values()
        ]  # fmt: skip
        table.rows.append((name, str(positive), str(negative), *found))
        table.numbers.update(
            {f"BRCA1 {name}, {method}, AUROC": value for method, value in zip(methods, found, strict=True)}
        )
    return table


def _squash(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks between 0 and 1, which is what scores of a class have to lie between."""
    order = np.unique(values, return_inverse=True)[1]
    ranks: NDArray[np.float64] = (order + 1) / (order.max() + 2)
    return ranks
