"""`--list`: a row per scheme for the device that is here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.app.application import main
from src.config.paths import ROOT
from tests.config.conftest import Call
from tests.conftest import canonical


def rows(text: str) -> dict[str, str]:
    return {line.split()[0]: line for line in text.splitlines()[2:]}


@pytest.fixture(scope="module")
def printed() -> str:
    """By a real process, for this CPU."""
    command = [sys.executable, "-m", "src.run", "--list", "gpu=cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_scheme_has_a_row(printed: str) -> None:
    listed = rows(printed)
    assert "\x1b" not in printed
    assert sorted(listed) == canonical("quant")
    assert re.search(r"int8wo +8 +safetensors +needed +ok +int8_weight_only$", listed["int8wo"])
    assert re.search(r"mxfp8 .* emulated +mxfp8 needs a cuda device.* → quant\.emulate=true", listed["mxfp8"])
    assert re.search(r"mxfp8 +8\.25 .* safetensors +fails .*; inductor's C\+\+ has no type", listed["mxfp8"])
    assert re.search(r"float8dq .* unsupported +float8dq needs .* → a GPU with float8", listed["float8dq"])
    assert listed["float8dq"].endswith("fp8dq")
    assert "cannot run: torchao's GGUFWeightOnlyConfig" in listed["gguf"]
    assert all(line == line.rstrip() for line in printed.splitlines())


def test_a_row_follows_the_command_line(call: Call) -> None:
    result = call("--list", "gpu=cpu", "dtype=float16", "quant=int4wo")
    listed = rows(result.out)
    assert (result.status, result.err, result.runs) == (0, "", [])
    assert " unsupported " in listed["mxfp8"]
    assert "dtype bfloat16" in listed["mxfp8"]


def test_a_scheme_of_ones_own_is_listed(call: Call, tmp_path: Path) -> None:
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "mine.yaml").write_text(
        "name: mine\nrequires: {never: no kernel, remedy: another}\n"
    )
    assert "mine cannot run: no kernel → another" in rows(call("-cd", str(tmp_path), "--list").out)["mine"]


def test_what_a_scheme_asks_of_device_and_layers_is_listed(printed: str) -> None:
    assert re.match(
        r"quant +bits +needs +layers +saves as +compile +status +why not", printed.splitlines()[1]
    )
    listed = rows(printed)
    assert "  K % 128, N % 16, group 128 of 32 64 128  " in listed["int4wo"]
    assert "  K % 64, group 64  " in listed["uint3wo"]
    assert "  K·N % 16384  " in listed["nf4"]
    assert re.search(r"  cuda >= 9\.0, mslk, bfloat16 +K % 128  ", listed["float8dq_int4wo"])
    assert "  K % 128, N % 16, 2-D inputs  " in listed["float8dq_2to4"]
    assert "  cuda >= 9.0 < 10.0, bfloat16  " in listed["float8dq_2to4"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the card may be here")
@pytest.mark.parametrize(
    ("gpu", "runs", "does_not"),
    [("a100", "int4wo", "float8dq"), ("h100", "float8dq", "mxfp8"), ("b200", "mxfp8", "float8dq_2to4")],
)
def test_a_card_that_is_not_here_is_foretold_from_its_data(
    call: Call, gpu: str, runs: str, does_not: str
) -> None:
    result = call("--list", f"gpu={gpu}")
    assert (result.status, result.err) == (0, "")
    where = f"conf/gpu/{gpu}.yaml"
    first = result.out.splitlines()[0]
    assert (
        first
        == f"NVIDIA {gpu.upper()}, bfloat16 (dtype=auto); foretold from {where}: this machine does not have it"
    )
    listed = rows(result.out)
    assert re.search(r"  ok( |$)", listed[runs])
    assert re.search(r"  (unsupported|emulated)  ", listed[does_not])
    assert re.search(rf"compute capability .*; this is NVIDIA {gpu.upper()}", listed[does_not])


def test_a_device_that_is_not_here_is_a_mistake(call: Call) -> None:
    result = call("--list", "gpu=cpu", "gpu.match=nothing_like_it")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("error: gpu=cpu: this machine's CPU is ")


def test_commands_without_schemes_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("analyze", lambda _: 0, ["--list"], prog="x") == 2
    assert "--list: only python -m src.run has schemes" in capsys.readouterr().err
