from __future__ import annotations

import numpy as np

from hyena_dna.simulation.streams import Part, stream


def test_a_stream_is_the_spawned_child_of_the_seed() -> None:
    root = np.random.SeedSequence(3)
    child = root.spawn(int(Part.GENES) + 1)[Part.GENES].spawn(2)[1]
    expected = np.random.Generator(np.random.PCG64(child)).integers(1 << 60, size=8)
    assert stream(3, Part.GENES, 1).integers(1 << 60, size=8).tolist() == expected.tolist()


def test_parts_and_contigs_draw_different_numbers() -> None:
    drawn = {int(stream(0, part, contig).integers(1 << 62)) for part in Part for contig in range(4)}
    assert len(drawn) == 4 * len(Part)
