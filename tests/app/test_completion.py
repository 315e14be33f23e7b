"""Tab completion, asked of the application and of a real bash."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.config.paths import ROOT
from tests.app.conftest import Call

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PS1": "> ", "TERM": "dumb"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("qua", {"quant="}),
        ("quant=int8d", {"quant=int8dq", "quant=int8dq_2to4"}),
        ("quant=int8_w", {"quant=int8_weight_only"}),
        ("-m quant=none,nv", {"quant=none,nvfp4", "quant=none,nvfp4wo"}),
        ("-m quant=none,int8wo model=lin", {"model=linear"}),
        ("model=linear model.dims.", {"model.dims.M=", "model.dims.K=", "model.dims.N="}),
        ("dtype=", {"dtype=auto", "dtype=bfloat16", "dtype=float16", "dtype=float32"}),
        ("model.weights.source=l", {"model.weights.source=local"}),
        ("target=", {"target=denoiser", "target=block", "target=linear", "target=pipeline"}),
        ("hydra/launcher=lo", {"hydra/launcher=local"}),
        ("sweeps=linear_shapes batc", {"batch="}),
        ("--mul", {"--multirun"}),
        ("quant=nope batch=1 dty", set()),
        (
            "'outputs=\"My Projects\"' model=linear model.dims.",
            {"model.dims.M=", "model.dims.K=", "model.dims.N="},
        ),
        ("'outputs=My Pro", set()),
    ],
)
def test_what_the_last_word_may_become(
    call: Call, monkeypatch: pytest.MonkeyPatch, line: str, expected: set[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    result = call("-sc", "query=bash")
    words = {word for word in result.out.split() if not word.endswith(".")}
    assert words - {"quant"} == expected


@pytest.mark.parametrize(
    ("program", "replies"),
    [
        (
            "quantpay",
            {
                "quantpay compile=m": ["max-autotune", "max-autotune-no-cudagraphs"],
                "quantpay -m quant=none,autoq": ["none,autoquant"],
            },
        ),
        (
            "python -m src.run",
            {
                "python -m src.run compile=reg": ["regional"],
                "python -m src.analyze tracking=sq": ["sqlite"],
                "python -m pytest quant=int8": [],
            },
        ),
    ],
)
def test_bash_gets_what_follows_its_last_word_break(program: str, replies: dict[str, list[str]]) -> None:
    asked = "".join(
        f"""
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({line.split()[0]}) COMPREPLY=()
        {"_quantpay_" + program.split()[0]}
        echo "${{COMPREPLY[@]}}"
        """
        for line in replies
    )
    told = _bash(f'eval "$({program} -sc install=bash)"\n{asked}').split("\n")[-len(replies) - 1 : -1]
    assert [line.split() for line in told] == [*replies.values()]


def test_uninstalling_takes_it_back() -> None:
    script = """
        eval "$(quantpay -sc install=bash)"; complete -p quantpay
        eval "$(quantpay -sc uninstall=bash)"; complete -p quantpay || echo gone
    """
    assert _bash(script).splitlines()[1:] == ["gone"]


def test_tab_in_an_interactive_shell() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], ENVIRONMENT)
    try:
        os.write(terminal, b'eval "$(quantpay -sc install=bash)" && echo in"stalled"\n')
        _read_until(terminal, "installed")
        os.write(terminal, b"quantpay quant=autoq\t")
        assert "autoquant" in _read_until(terminal, "autoquant")
    finally:
        os.write(terminal, b"\x03exit\n")
        os.close(terminal)
        os.waitpid(pid, 0)


def _bash(script: str) -> str:
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    return done.stdout


def _read_until(terminal: int, expected: str, timeout_s: float = 30) -> str:
    seen, end = "", time.monotonic() + timeout_s
    while expected not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
    return seen
