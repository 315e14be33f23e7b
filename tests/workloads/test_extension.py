"""A model, a scheme and a compile mode that the project has never heard of, added as YAML only."""

import pytest

from src.records.record import Outcome
from tests.conftest import SMALL_LINEAR

SD3 = """
name: sd3-tiny
factory:
  _target_: diffusers.SD3Transformer2DModel
  sample_size: 16
  num_layers: 2
  attention_head_dim: 32
  num_attention_heads: 2
  joint_attention_dim: 64
  caption_projection_dim: 64
  pooled_projection_dim: 64
  pos_embed_max_size: 16
  in_channels: 4
  out_channels: 4
resolution: 128
dims: {latent: resolution // 8, text_tokens: 7}
inputs:
  hidden_states: {shape: [batch, 4, latent, latent]}
  encoder_hidden_states: {shape: [batch, text_tokens, 64]}
  pooled_projections: {shape: [batch, 64]}
  timestep: {shape: [batch], fill: 500}
call: {return_dict: false}
targets: {denoiser: "", block: transformer_blocks.1}
"""
INTX = """
name: uint4wo
config:
  _target_: torchao.quantization.IntxWeightOnlyConfig
  weight_dtype: {_target_: hydra.utils.get_object, path: torch.int4}
  granularity: {_target_: torchao.quantization.PerGroup, group_size: 32}
requires: {k_multiple: 32}
"""
EAGER_BACKEND = """
name: dynamo-only
backend: eager
"""


@pytest.fixture
def folder(tmp_path):
    for group, name, text in (
        ("model", "sd3-tiny", SD3),
        ("quant", "uint4wo", INTX),
        ("compile", "dynamo-only", EAGER_BACKEND),
    ):
        path = tmp_path / "conf" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return f"hydra.searchpath=[file://{tmp_path / 'conf'}]"


@pytest.mark.parametrize("target", ["denoiser", "block"])
def test_a_new_model(compose, execute_run, folder, target):
    cfg = compose(folder, "model=sd3-tiny", "dtype=float32", "batch=2", "quant=int8wo", f"target={target}")
    record = execute_run(cfg)
    assert (record.outcome, record.reason) == (Outcome.OK, record.reason)
    assert record.metrics["quantize/layers"] > 0
    assert record.metrics["quality/sqnr_db"] > 30


def test_a_new_scheme(compose, execute_run, folder):
    record = execute_run(compose(folder, *SMALL_LINEAR, "quant=uint4wo"))
    assert record.outcome is Outcome.OK, record.reason
    assert 10 < record.metrics["quality/sqnr_db"] < 30


def test_a_new_compile_mode(compose, execute_run, folder):
    cfg = compose(folder, *SMALL_LINEAR, "quant=none", "compile=dynamo-only")
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
