"""Layers, components, where and through what: what the command line accepts, and what it says otherwise."""

import pytest

from src.config.paths import ROOT
from tests.app.conftest import Call

PRESETS = sorted(path.stem for path in (ROOT / "conf" / "layers").glob("*.yaml"))


def test_a_preset_fills_the_rules_and_keys_override_it(call: Call) -> None:
    (run,) = call("layers=large", "quant.layers.min_side=512").runs
    assert (run.quant.layers.name, run.quant.layers.min_side) == ("large", 512)
    assert len(run.quant.layers.exclude) > 1
    swept = call("-m", "layers=all,field_default,large").runs
    assert [run.quant.layers.min_side for run in swept] == [0, 512, 1024]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(call: Call, preset: str) -> None:
    (run,) = call(f"layers={preset}").runs
    assert run.quant.layers.name == preset
    lines = call("--help", "layers").out.splitlines()
    assert run.quant.layers.description in next(line for line in lines if line.startswith(preset))


def test_the_rules_of_a_scheme_of_ones_own_stand(call: Call, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "mine.yaml").write_text("defaults: [int8wo]\nname: mine\nlayers: {min_side: 64}\n")
    (run,) = call("-cd", str(tmp_path), "quant=mine").runs
    assert (run.quant.layers.name, run.quant.layers.min_side) == ("all", 64)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["layers=field"], "layers=field: no such option; did you mean field_default?; accepted: all"),
        (["quant.layers.exclude=['(']"], "quant.layers.exclude=(: not a regular expression"),
        (["quant.layers.min_m=9", "quant.layers.max_m=8"], "min_m=9: must be at most quant.layers.max_m=8"),
        (["quant.layers.k_multiple=0"], "quant.layers.k_multiple=0: must be at least 1"),
        (["quant.components=[vae]"], "target=denoiser of flux-tiny has no component vae; accepted: denoiser"),
        (["quant.components=[text_encoder]", "target=pipeline"], "accepted: denoiser, vae"),
        (["quant.components=[]"], "quant.components=[]: nothing to quantize"),
        (["quant.where=gpu"], "quant.where=gpu: no such choice; did you mean cpu?; accepted: device"),
        (["quant.via=direkt"], "quant.via=direkt: no such choice; did you mean direct?"),
        (
            ["quant.components=[text_encoder]", "target=pipeline"],
            "with model.pipeline.prompt=tokens also text_encoder",
        ),
        (
            ["quant.components=[clip]", "target=pipeline", "model.pipeline.prompt=tokens"],
            "no component clip; accepted: denoiser, vae, text_encoder, text_encoder_2",
        ),
        (
            ["model.pipeline.prompt=words"],
            "model.pipeline.prompt=words: no such choice; accepted: embeddings, tokens",
        ),
        (
            ["layers=sensitive", "quant=autoquant"],
            "layers=sensitive: quant=autoquant chooses layer by layer itself",
        ),
        (["layers=sensitive", "quant=regime"], "give layers=all, or a single scheme"),
        (["layers=sensitive", "quant.where=cpu"], "give quant.where=device or streamed"),
        (
            ["layers=sensitive", "recipe.offload=model", "target=pipeline"],
            "recipe.offload=model does not allow",
        ),
        (
            ["layers=sensitive", "quant.layers.sensitive.min_sqnr_db=-1"],
            "min_sqnr_db=-1.0: must be between 0.0 and 120.0",
        ),
        (
            ["quant.layers.sensitive.min_sqnr_db=25"],
            "min_sqnr_db=25: nothing is chosen by it; give layers=sensitive",
        ),
        (["quant.via=diffusers", "quant=autoquant"], "takes one scheme for all layers"),
        (["quant.where=cpu", "quant=autoquant"], "quant.where=cpu: autoquant searches on the device"),
    ],
)
def test_mistakes_are_told_before_anything_runs(call: Call, argv: list[str], said: str) -> None:
    result = call(*argv)
    assert (result.status, result.runs) == (2, [])
    assert said in result.err
    assert result.err.count("\n") == 1
