"""`--list`: every scheme, by what becomes of it on the device that is here."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from src.app.application import main
from tests.app.conftest import Call, logging_as_before
from tests.conftest import canonical

HERE, ELSEWHERE, NEVER = "Runs here", "Needs another device", "Cannot run on any device"


def groups(text: str) -> dict[str, str]:
    """What stands below each heading."""
    return dict(
        re.findall(
            r"^(Runs here|Needs another device|Cannot run on any device) \(\d+\)(.*\n(?:  .*\n)*)", text, re.M
        )
    )


@pytest.fixture(scope="module")
def printed() -> str:
    """For this CPU, where no terminal says its width."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        logging_as_before(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patched.setattr("sys.argv", ["run.py"])
        patched.delenv("COLUMNS", raising=False)
        patched.setattr("os.get_terminal_size", Mock(side_effect=OSError))
        status = main("config", lambda _: 0, ["--list", "gpu=cpu"], prog="python -m src.run")
    assert (status, err.getvalue()) == (0, "")
    return out.getvalue()


def names(text: str) -> set[str]:
    """The schemes in a list, families taken apart."""
    found = set()
    for line in text.splitlines():
        word = line.split()[0].rstrip(":") if line.strip() else ""
        if word == "fp3_*":
            found |= {f"fp{1 + e + m}_e{e}m{m}" for e in range(1, 8) for m in range(8) if 2 <= e + m <= 7}
        elif word == "uint*wo":
            found |= {f"uint{n}wo" for n in range(1, 8)}
        else:
            found.add(word.rstrip("*"))
    return found


def test_it_fits_a_small_terminal_and_has_every_scheme(printed: str) -> None:
    assert "\x1b" not in printed
    assert all(line == line.rstrip() and len(line) <= 80 for line in printed.splitlines())
    assert printed.count("\n") <= 60
    assert set(canonical("quant")) <= names(printed)
    assert printed.endswith("-m src.run --help quant\n")


def test_a_reason_stands_once_above_the_schemes_that_share_it(printed: str) -> None:
    found = groups(printed)
    assert re.search(r"^  int8wo +8 +safetensors +needed$", found[HERE], re.M)
    assert re.search(r"^  codebook: Dynamo cannot trace", found[HERE], re.M)
    told = " ".join(found[ELSEWHERE].split())
    assert told.startswith(": a cuda device compute capability >= 8.0 → ")
    assert told.count("a cuda device") == told.count("compute capability >= 8.9") == 1
    assert told.count("a Blackwell GPU") == 1
    assert (
        "compute capability >= 8.9 → a GPU with float8 tensor cores (gpu=rtx4090, l40s, h100, h200, b200)"
        in told
    )
    assert "mxfp4*, mxfp8*: inductor's C++ has no type" in told
    assert "*: here with quant.emulate=true" in " ".join(printed.split())
    never = " ".join(found[NEVER].split())
    assert (
        "gguf: torchao's GGUFWeightOnlyConfig is no quantization → quant=int4wo, nf4 or codebook int8"
        in never
    )


def test_it_follows_the_command_line_and_is_as_wide_as_the_terminal(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    result = call("--list", "gpu=cpu", "dtype=float16", "quant=int4wo")
    assert (result.status, result.err, result.runs) == (0, "", [])
    told = " ".join(groups(result.out)[ELSEWHERE].split())
    assert "dtype bfloat16" in told
    assert "mxfp8 " in told, "not emulated in this dtype"
    assert 110 < max(map(len, result.out.splitlines())) <= 150


def test_what_a_scheme_asks_of_its_layers_is_listed(printed: str) -> None:
    assert re.search(r"^  int4wo +4\.25 +torch +K%128, N%16, group 32/64/128$", printed, re.M)
    assert re.search(r"^  fp3_\* to fp8_\* +3 to 8 +torch +needed +\* e1m1 to e7m0$", printed, re.M)
    assert re.search(r"^  uint\*wo +\*\.375 +torch +needed +K%64, group 64; \* 1 to 7$", printed, re.M)
    assert re.search(r"^  nf4 .* K·N%16384$", printed, re.M)
    assert re.search(r"^    float8dq_int4wo +K%128; bf16$", printed, re.M)
    assert re.search(r"^  nvfp4wo .* K%16, N%16; bf16/fp32$", printed, re.M)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the card may be here")
def test_a_card_that_is_not_here_is_predicted_from_its_data_and_a_scheme_of_ones_own_is_listed(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "mine.yaml").write_text(
        "name: mine\nrequires: {never: no kernel, remedy: another}\n"
    )
    result = call("-cd", str(tmp_path), "--list", "gpu=h100")
    assert (result.status, result.err) == (0, "")
    first = "NVIDIA H100, bfloat16 (dtype=auto); predicted from conf/gpu/h100.yaml: this machine does not"
    assert " ".join(result.out.split()).startswith(first)
    found = groups(result.out)
    assert "float8dq" in names(found[HERE])
    assert "mxfp8" in names(found[ELSEWHERE])
    assert "compute capability" in found[ELSEWHERE]
    assert "  mine: no kernel → another\n" in found[NEVER]


def test_a_device_that_is_not_here_is_a_mistake(call: Call) -> None:
    result = call("--list", "gpu=cpu", "gpu.match=nothing_like_it")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("error: gpu=cpu: this machine's CPU is ")


def test_commands_without_schemes_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("analyze", lambda _: 0, ["--list"], prog="x") == 2
    assert "--list: only python -m src.run has schemes" in capsys.readouterr().err


def test_it_says_what_of_recipes_is_not_here(printed: str) -> None:
    assert "\nNot for recipes here: attention=efficient/cudnn, cuda_graphs, offload\n" in printed
