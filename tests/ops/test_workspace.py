from __future__ import annotations

import pytest
import torch

from hyena_dna.ops.workspace import WORKSPACE_BYTES, cut_tiles, map_rows, rows_per_chunk


def test_a_row_larger_than_the_workspace_is_still_processed() -> None:
    assert rows_per_chunk(torch.device("cpu"), 10 * WORKSPACE_BYTES["cpu"]) == 1
    assert rows_per_chunk(torch.device("cpu"), WORKSPACE_BYTES["cpu"] // 3) == 3


def test_rows_come_back_whole_and_in_order() -> None:
    rows = torch.arange(22.0).view(11, 2)
    calls: list[int] = []

    def double(part: torch.Tensor) -> torch.Tensor:
        calls.append(len(part))
        return torch.cat([part, 2 * part], dim=1)

    torch.testing.assert_close(map_rows(double, rows, 4), torch.cat([rows, 2 * rows], dim=1))
    assert calls == [4, 4, 3]


@pytest.mark.parametrize(("batch", "length", "positions"), [(5, 3, 7), (2, 10, 4), (1, 1, 1), (3, 8, 8), (2, 9, 1)])
def test_tiles_cover_everything_once(batch: int, length: int, positions: int) -> None:
    covered = torch.zeros(batch, length)
    for tile in cut_tiles(batch, length, positions):
        covered[tile] += 1
        assert 0 < covered[tile].numel() <= positions
    assert (covered == 1).all()
