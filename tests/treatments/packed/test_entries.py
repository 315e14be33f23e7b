"""The packed formats as conf/quant entries: named for what they are, run as any other."""

import re
import subprocess
import sys

import pytest

from src.devices.device import Device
from src.records.record import Outcome
from src.treatments.scheme import TorchaoScheme, make_scheme
from tests.conftest import ROOT, SMALL_LINEAR

FLOATS = [(1 + e + m, e, m) for e in range(1, 8) for m in range(7) if 3 <= 1 + e + m <= 8]
NAMES = [f"uint{bits}wo" for bits in range(1, 8)] + ["fp{}_e{}m{}".format(*bits) for bits in FLOATS]
COMPILED = ("compile=default", "compile.backend=aot_eager")
CPU = Device("cpu", "CPU", 1.0)


@pytest.mark.parametrize(("quant", "bits"), [("uint3wo", 3.375), ("fp6_e3m2", 6.125), ("int4dq", 4.75)])
def test_a_run_of_each_family(compose, execute_run, quant, bits):
    record = execute_run(compose(*SMALL_LINEAR, f"quant={quant}", *COMPILED))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quantize/layers"] == 1
    assert record.metrics["compile/graph_breaks"] == record.metrics["compile/recompiles"] == 0
    ratio = record.metrics["memory/model_gib"] / record.metrics["memory/baseline_model_gib"]
    assert 16 * ratio == pytest.approx(bits)
    assert record.metrics["quality/sqnr_db"] > 10


def test_a_run_says_which_layers_do_not_fit(compose, execute_run):
    reason = "K=256 is not a multiple of 96"
    record = execute_run(compose(*SMALL_LINEAR, "quant=uint4wo", "quant.group_size=96"))
    assert (record.outcome, reason in record.reason) == (Outcome.UNSUPPORTED, True)
    forced = execute_run(
        compose(*SMALL_LINEAR, "quant=uint4wo", "quant.group_size=96", "quant.requires.k_multiple=1")
    )
    assert (forced.outcome, "K=256 is not a multiple of group_size=96" in forced.reason) == (
        Outcome.UNSUPPORTED,
        True,
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_what_its_name_says(entries, name):
    conf = entries[name]
    scheme = make_scheme(conf)
    assert isinstance(scheme, TorchaoScheme)
    for device in (CPU, Device("cuda", "GPU", 1.0, compute_capability=7.5)):
        scheme.check(device, "float16")
        config = scheme.torchao_config(device)
        if floats := re.fullmatch(r"fp(\d)_e(\d)m(\d)", name):
            total, exponent, mantissa = map(int, floats.groups())
            assert (config.exponent_bits, config.mantissa_bits) == (exponent, mantissa)
            assert total == 1 + exponent + mantissa
            assert conf.description.startswith(f"{total}-bit floats, {exponent} exponent")
        else:
            assert (f"uint{config.bits}wo", config.group_size) == (name, 64)
            assert f"stored in {config.bits}.375 bits" in conf.description


def test_no_other_entry_looks_like_one():
    files = (path.stem for path in (ROOT / "conf" / "quant").glob("*.yaml"))
    assert {name for name in files if re.match(r"fp\d_|uint\d", name)} == set(NAMES)


def test_an_entry_can_be_a_candidate(compose):
    """What it shares with others finds its keys there too."""
    added = "+quant@quant.candidates.uint4wo=uint4wo"
    conf = compose("quant=autoquant", added, "quant.candidates.uint4wo.group_size=32").quant
    candidates = make_scheme(conf).candidates
    config = candidates["uint4wo"].torchao_config(CPU)
    assert (config.bits, config.group_size) == (4, 32)
    assert candidates["uint4wo"].conf.requires.k_multiple == 32


def test_what_entries_share_is_no_option():
    command = [sys.executable, "-m", "src.run", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240).stdout
    assert "uint3wo" in shown
    assert not re.search("quant_(uintx|fpx)", shown)
