"""The published runs that `benchmarks/whole_models.py` predicts are runs that this program has."""

from benchmarks.whole_models import RUNS, runs_of, words_of
from src.app.composing.runs import run_configs


def test_every_published_run_is_told_as_it_was() -> None:
    rows = [row for folder, table in RUNS for row in runs_of(folder, table).to_dict("records")]
    told = {tuple(words_of(row)): row for row in rows}
    assert len(told) > 8
    for words, row in told.items():
        ((cfg, _),) = run_configs(words)
        assert (cfg.model.name, cfg.quant.name) == (row["model"], row["quant"])
        assert cfg.recipe.fused_qkv == ("fused_qkv" in row["compile"])
