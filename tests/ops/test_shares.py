from __future__ import annotations

import pytest

from hyena_dna.ops.shares import shares


@pytest.mark.parametrize(("blocks", "most"), [(1, 1), (1, 8), (8, 8), (9, 8), (7, 3), (1000, 264), (5, 1)])
def test_every_block_is_in_one_share(blocks: int, most: int) -> None:
    count, size = shares(blocks, most)
    assert 1 <= count <= most
    assert (count - 1) * size < blocks <= count * size
