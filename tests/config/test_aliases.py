"""An alias is an option like any other, and nothing is kept under its name."""

import re
from pathlib import Path

import yaml
from hydra.core.global_hydra import GlobalHydra

from src.app.application import Application
from src.app.arguments import parse
from src.config.aliases import aliases, option_text, without_aliases
from src.config.paths import ROOT
from tests.app.conftest import Call
from tests.conftest import canonical

NAMES = [path.stem for path in (ROOT / "conf" / "quant").glob("*.yaml")]
CANONICAL = (
    "none autoquant regime int8wo int8dq int8_static int4wo int4wo_hqq int4dq float8wo float8wo_e5m2 float8dq "
    "float8_e4m3_row float8_static float8dq_int4wo mxfp8 mxfp4 nvfp4 nvfp4wo nf4 gguf codebook int8dq_2to4 "
    "bf16_2to4 float8dq_2to4"
)
KNOWN = {  # names that people know from torchao, diffusers and diffusers-torchao
    "int8_weight_only": "int8wo",
    "int8_dynamic_activation_int8_weight": "int8dq",
    "int4_weight_only": "int4wo",
    "int8_dynamic_activation_int4_weight": "int4dq",
    "float8_weight_only": "float8wo",
    "float8wo_e4m3": "float8wo",
    "fp8wo": "float8wo",
    "float8_dynamic_activation_float8_weight": "float8dq",
    "float8dq_e4m3": "float8dq",
    "float8_e4m3_tensor": "float8dq",
    "fp8dq": "float8dq",
    "fp8dqrow": "float8_e4m3_row",
    "float8_static_activation_float8_weight": "float8_static",
    "sparsify": "int8dq_2to4",
    "uintx_weight_only": "uintx_weight_only",  # says no width: unsupported, with what to type instead
    "fpx_weight_only": "fpx_weight_only",
    "fp3": "fp3_e1m1",  # diffusers 0.32's default split of X bits
    "fp4": "fp4_e2m1",
    "fp5": "fp5_e2m2",
    "fp6": "fp6_e3m2",
    "fp7": "fp7_e3m3",
    **{name: name for name in (*CANONICAL.split(), *(f"uint{bits}wo" for bits in range(1, 8)))},
    **{name: name for name in (f"fp{x}_e{x - 1 - m}m{m}" for x in range(3, 9) for m in range(x - 1))},
}


def test_every_alias_names_one_option_and_says_nothing_else() -> None:
    options = set(canonical("quant"))
    for alias in sorted(set(NAMES) - options):
        content = yaml.safe_load((ROOT / "conf" / "quant" / f"{alias}.yaml").read_text())
        assert content.keys() == {"defaults"}, alias
        assert len(content["defaults"]) == 1, alias
        assert content["defaults"][0] in options, alias


def test_every_name_that_people_know_is_there() -> None:
    """By the files, as composing each takes 8 s."""

    def stands_for(name: str) -> str:
        content = yaml.safe_load((ROOT / "conf" / "quant" / f"{name}.yaml").read_text())
        return str(content.get("name") or content["defaults"][0])

    assert {name: stands_for(name) for name in KNOWN} == KNOWN


def test_a_run_by_an_alias_is_the_run_of_the_option(call: Call) -> None:
    by_alias = call("-m", "quant=int8_weight_only,fp6,sparsify").runs
    assert by_alias == call("-m", "quant=int8wo,fp6_e3m2,int8dq_2to4").runs


def test_aliases_in_a_sweep(call: Call) -> None:
    result = call("-m", "quant=int8_weight_only,fp8dqrow,none", "batch=1,2")
    assert [run.quant.name for run in result.runs] == ["int8wo"] * 2 + ["float8_e4m3_row"] * 2 + ["none"] * 2


def test_an_alias_in_a_sweep_file_and_as_a_candidate(call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /quant: fp8dq]\nhydra: {sweeper: {params: {batch: '1,2'}}}\n"
    )
    assert [run.quant.name for run in call("-cd", str(tmp_path), "sweeps=mine").runs] == ["float8dq"] * 2
    (run,) = call("quant=autoquant", "+quant@quant.candidates.row=fp8dqrow").runs
    assert run.quant.candidates["row"]["name"] == "float8_e4m3_row"


def test_a_glob_takes_no_alias(call: Call) -> None:
    """int8_dynamic_activation_int4_weight stands for int4dq."""
    swept = call("-m", "quant=glob(int8*)").runs
    names = [run.quant.name for run in swept]
    assert names == sorted(name for name in canonical("quant") if name.startswith("int8"))
    only = call("-m", "quant=glob(int8_*activation*)")
    assert (only.status, only.runs, only.err.count("\n")) == (2, [], 1)
    assert (
        "no value to sweep over; aliases are not matched: int8_dynamic_activation_int4_weight, " in only.err
    )
    assert "quant=glob(nope*): no value to sweep over\n" in call("-m", "quant=glob(nope*)").err


def test_an_alias_of_ones_own(call: Call, tmp_path: Path) -> None:
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "w8.yaml").write_text("# what we call it\ndefaults: [int8wo]\n")
    assert call("-cd", str(tmp_path), "quant=w8").runs[0].quant.name == "int8wo"
    assert re.search(r"^w8 +alias of int8wo$", call("-cd", str(tmp_path), "--help", "quant").out, re.M)


def test_what_is_an_alias_and_what_is_not() -> None:
    try:
        loader = Application(parse([], "x"), "config", lambda _: 0, "x").loader
        found = aliases("quant", loader)
        assert found.keys() == set(NAMES) - set(canonical("quant"))
        assert without_aliases("quant", ["fp8dq", "int8wo", "none"], loader) == ["int8wo", "none"]
        assert option_text("quant", "fp8dq", loader) == "defaults: [float8dq]\n"
        assert option_text("quant", "nope", loader) == ""
        assert aliases("model", loader) == {}
    finally:
        GlobalHydra.instance().clear()


def test_help_and_errors_list_canonical_names_only(call: Call) -> None:
    assert re.search(r"^int8_weight_only +alias of int8wo$", call("--help", "quant").out, re.M)
    assert "int8_weight_only" not in call("--help").out
    assert "int8wo*" in call("--help", "quant=int8_weight_only").out
    wrong = call("quant=int8_weight_onl").err
    assert "did you mean int8_weight_only?" in wrong
    assert "int8wo" in wrong
    assert "fp8dqrow" not in wrong
