"""Beside an answer: the commands that measure it again, on which device, and the code that quantizes so."""

import json
import re
import shlex

import pytest
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from src.analysis.answers.advice import advised
from src.analysis.answers.commands import repeat, surer
from src.analysis.answers.picks import answers
from src.analysis.answers.places import elsewhere, gpu_of
from src.app.arguments import parse
from src.app.command_line import CommandLine
from src.report.answer_cards import answer_section
from src.report.runs.links import RunLinks
from src.report.terminal import closing
from tests.analysis.synthetic import made


def sweep_of(store, name, *command):
    folder = store.outputs / "sweeps" / name
    folder.mkdir(parents=True)
    manifest = {
        "sweep": name,
        "command": ["run.py", *command],
        "started_at": "2026-08-01T10:00:00+00:00",
        "runs": [],
    }
    (folder / "sweep.json").write_text(json.dumps(manifest))
    return name


def test_a_run_is_repeated_by_its_sweeps_command_with_its_own_values(store, framed):
    sweep = sweep_of(store, "s1", "-m", "quant=int8wo,int8dq", "batch=1,4", "layers=field_default", "outputs=/x",
                     "measure.budget_s=3", "tracking=none")  # fmt: skip
    frame = framed(
        [made("a", 1.2, sweep=sweep, batch=4), made("b", 1.19, sweep=sweep, batch=4, quant="int8wo")]
    )
    command = repeat(frame[frame["quant"] == "int8dq"].iloc[0], store.outputs)
    assert command.split("src.run ")[1] == (
        "model=flux-tiny quant=int8dq compile=default batch=4 gpu=cpu resolution=256 dtype=bfloat16 "
        f"layers=field_default measure.budget_s=3 outputs={store.outputs}"
    )
    told = surer([row for _, row in frame.iterrows()], store.outputs)
    assert "-m model=flux-tiny quant=int8dq,int8wo compile=default" in told
    assert "measure.processes=3" in told


H200, OTHER = "NVIDIA H200 (140 GiB, 700 W)", "NVIDIA GB10 (120 GiB)"


@pytest.mark.parametrize(
    ("device", "kind", "here", "told"),
    [
        (H200, "cuda", [], " gpu=h200 "),
        (H200, "cuda", ["NVIDIA H100 80GB HBM3"], " gpu=h200 "),
        (H200, "", [], " gpu=h200 "),  # of before there were identities
        (H200, "cuda", ["NVIDIA H200"], ""),
        (OTHER, "cuda", [], ""),
        (OTHER, "cuda", ["NVIDIA GB10"], ""),
        ("AMD EPYC 9R14, 2 threads", "cpu", ["NVIDIA H200"], " gpu=cpu "),
        ("AMD EPYC 9R14, 2 threads", "cpu", [], ""),
    ],
)
def test_a_run_of_another_machine_is_repeated_on_its_device(
    store, framed, monkeypatch, device, kind, here, told
):
    monkeypatch.setattr("src.analysis.answers.places.nvidia_names", lambda: tuple(here))
    row = framed([made("a", 1.2, gpu="auto", device=device)]).iloc[0].copy()
    row["device_identity"] = json.dumps({"kind": kind}) if kind else ""
    for command in (repeat(row, store.outputs), surer([row], store.outputs)):
        assert told in command
        assert ("gpu=" in command) == bool(told)


@pytest.mark.parametrize("here", [[], ["NVIDIA GB10"]])
def test_a_device_that_no_option_names_is_said_beside_the_command(
    store, framed, monkeypatch, tmp_path, capsys, here
):
    """Never in it: interactive zsh takes a comment for arguments."""
    monkeypatch.setattr("src.analysis.answers.places.nvidia_names", lambda: tuple(here))
    frame = framed([made("a", 1.2, gpu="auto", device=OTHER)])
    frame["device_identity"] = json.dumps({"kind": "cuda"})
    found = advised(answers(frame)[0], store.outputs, lambda *_: None)
    closing(Console(width=80), tmp_path / "report.html", "mlflow ui", found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-3] == ([] if here else [f"on {OTHER}:"])
    assert lines[-3] == f"{'next, surer:':13}{found[0].advice[0].surer}"
    page = answer_section(found) + RunLinks(store.outputs, tmp_path).html(frame.iloc[0])
    copied = re.findall(r"<code>(.*?)</code>", page)
    assert len(copied) >= 2
    assert not any("#" in code or OTHER in code for code in copied)
    told = page.replace(f'<h3 class="device">{OTHER}</h3>', "")
    assert told.count(f"on {OTHER}") == (0 if here else len(copied))


@pytest.mark.parametrize("own", [True, False])
def test_a_card_of_ones_own_configs_is_named_with_their_folder(store, framed, monkeypatch, tmp_path, own):
    """As the command that analyses found them: by its --config-dir."""
    monkeypatch.setattr("src.analysis.answers.places.nvidia_names", tuple)
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "dgx.yaml").write_text("name: dgx\nmatch: \\bGB10\\b\n")
    (tmp_path / "gpu" / "broken.yaml").write_text("name: [\n")
    row = framed([made("a", 1.2, gpu="auto", device=OTHER)]).iloc[0].copy()
    row["device_identity"] = json.dumps({"kind": "cuda"})
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
    CommandLine(parse(["--config-dir", str(tmp_path)] if own else [], "analyze"), "analyze", "analyze")
    for told in (repeat(row, store.outputs), surer([row], store.outputs)):
        words_of = shlex.split(told)
        assert ("gpu=dgx" in words_of) is own
        assert (f"--config-dir {tmp_path}" in " ".join(words_of)) is own
    assert elsewhere(row) == ("" if own else OTHER)
    row["device_name"] = H200
    assert gpu_of(row) == "h200"


def test_a_probe_of_a_named_sweep_keeps_what_that_sweep_fixes(store, framed, called):
    sweep = sweep_of(store, "s2", "sweeps=linear_shapes")
    (_, row), *_ = framed([made("a", 1.2, sweep=sweep, shape=(4, 1024, 1024), gpu="auto")]).iterrows()
    words_of = repeat(row, store.outputs).split("src.run ")[1]
    assert "sweeps=linear_shapes" in words_of
    assert "model.dims.M=4" in words_of


def test_code_comes_from_the_runs_own_files_or_the_tracker_or_not_at_all(store, framed):
    frame = framed([made("files", 1.2)])
    (nothing,) = advised(answers(frame)[0], store.outputs, lambda *_: None)[0].advice
    assert nothing.code == ""
    assert nothing.surer
    config = ("{target: denoiser, dtype: bfloat16, model: {factory: {_target_: m.Net}, targets: {denoiser: ''}}, "
              "quant: {name: a, _target_: x, config: {_target_: torchao.quantization.Some, n: 2}}, "
              "compile: {scope: module, backend: inductor}}")  # fmt: skip
    layers = [{"fqn": "q", "name": "q", "component": "denoiser", "scheme": "a"}]
    texts = {
        "config.yaml": config,
        "layers.json": json.dumps(layers),
        "record.json": '{"device": {"kind": "cpu"}}',
    }

    def fetched(run_id, name, folder):
        (folder / name).write_text(texts[name])
        return folder / name

    (found,) = advised(answers(frame)[0], store.outputs, fetched)[0].advice
    assert found.code == (
        "# model: a Net, in bfloat16\nfrom torchao.quantization import Some, quantize_\n"
        "quantize_(model, Some(n=2))\nmodel.compile()"
    )
