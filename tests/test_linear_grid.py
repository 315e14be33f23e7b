"""Ways of timing a Linear, held against each other: the published grid, and this program's own records."""

import pytest

from benchmarks import linear_probes
from benchmarks.linear_grid import GRID, agreement, commands, grid, probes, rows
from src.records.record import Outcome, Record


def test_what_the_published_grid_says():
    """As docs/measurement.md has it."""
    by_graph = grid("speedup")
    blocked, call = (agreement(by_graph, grid(f"{way}_speedup")) for way in ("blocked", "call"))
    assert (call.cells, call.helps, call.said_to_hurt, call.other_verdict) == (141, 40, 28, 33)
    assert (blocked.other_verdict, blocked.clear, blocked.right_sign) == (5, 130, 130)
    assert (call.clear, call.right_sign) == (130, 102)
    assert blocked.apart == pytest.approx(0.046, abs=0.001)


def test_what_the_probes_of_an_h200_say():
    """As docs/measurement.md and outputs/published/nvidia-h200 have it."""
    folder = GRID.parents[1] / "nvidia-h200"
    found = agreement(grid("speedup", folder / "linear_grid.csv"), rows(folder / "linear_probes.jsonl"))
    assert (found.cells, found.clear, found.right_sign, found.other_verdict) == (141, 135, 134, 3)
    assert (found.helps, found.said_to_hurt) == (39, 0)
    assert found.apart == pytest.approx(0.038, abs=0.001)


def test_a_probe_is_made_and_timed_as_a_run_would():
    quick = ("compile=none", "gpu=cpu", "gpu.threads=1", "measure.budget_s=0.1", "measure.max_warmup_s=0")
    make = linear_probes.maker((*linear_probes.OPTIONS, *quick))
    found = [linear_probes.timed(make((16, 64, 32, quant))) for quant in ("int8wo", "float8dq")]
    assert (found[0]["M"], found[0]["K"], found[0]["N"], found[0]["quant"]) == (16, 64, 32, "int8wo")
    assert found[0]["low"] <= found[0]["speedup"] <= found[0]["high"]
    assert "needs a cuda device" in found[1]["error"]


def test_each_cell_is_dealt_out_once_and_those_of_a_layer_together():
    cells = [*grid("speedup")]
    dealt = linear_probes.shares(cells, 14)
    assert sorted(cell for share in dealt for cell in share) == sorted(cells)
    of_layer = {}
    for number, share in enumerate(dealt):
        for cell in share:
            assert of_layer.setdefault(cell[:3], number) == number


def test_records_are_held_against_it(tmp_path):
    for place, (m, quant, speedup) in enumerate(
        [(1, "int8wo", 1.2), (32, "int8wo", 0.9), (64, "int8dq", 2.0)]
    ):
        axes = {"model": "linear", "quant": quant}
        record = Record(f"{place:016x}", 1, "sweep", axes, outcome=Outcome.OK, shape={"M": m, "K": 8, "N": 8})
        record.metrics["speedup/ratio"] = speedup
        folder = tmp_path / "runs" / record.run_key / "001"
        folder.mkdir(parents=True)
        record.write(folder)
    found = agreement(
        {(1, 8, 8, "int8wo"): 1.3, (32, 8, 8, "int8wo"): 1.1, (2, 8, 8, "none"): 1.0}, probes(tmp_path)
    )
    assert (found.cells, found.helps, found.said_to_hurt, found.right_sign) == (2, 2, 1, 1)


def test_nothing_in_common_is_an_error():
    with pytest.raises(ValueError, match="no cell of the grid"):
        agreement({(1, 8, 8, "int8wo"): 1.0}, {})


def test_a_sweep_for_each_scheme():
    found = commands([(1, 2, 3, "int8wo"), (4, 5, 6, "int8dq"), (7, 8, 9, "int8wo")])
    assert len(found) == 2
    assert found[0].endswith("quant=int8wo 'model.dims={M:1,K:2,N:3},{M:7,K:8,N:9}'")
