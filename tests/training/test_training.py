"""task=train: a recipe's steps, a kill between two of them, what a checkpoint refuses, what is left in the end."""

import errno
import json
import os
import resource
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from src.config.errors import ConfigError
from src.config.schema.training import TrainingConf
from src.context import RunContext
from src.outcomes import RunEndedError
from src.records.key import run_key
from src.records.mlflow.points import points
from src.records.record import EMULATED, Outcome
from src.tasks.train import Training, train_model
from src.training.checkpoint import NAME, load_checkpoint, save_checkpoint
from src.training.digits import digits
from src.training.objectives import FlowMatching
from src.training.step import learning_rate, seed_of, step, trainee
from tests.conftest import identity

TINY = (
    "task=train",
    "model=digits",
    "model.factory.num_layers=1",
    "model.factory.num_attention_heads=1",
    "model.factory.attention_head_dim=16",
    "model.training.batch=8",
    "model.training.steps=6",
    "model.training.save_every=2",
    "model.training.samples_every=3",
    "model.pipeline.samples=10",
    "model.pipeline.steps=2",
)
NO_SAMPLES = ("model.pipeline.samples=0", "model.training.steps=4")
WEIGHTS = "weights/diffusion_pytorch_model.safetensors"


@pytest.fixture
def trained(compose, cpu, tmp_path):
    """trained(name, *overrides): a context whose run lies in a folder of that name; the checkpoint is beside it."""

    def made(name, *overrides, like=TINY):
        cfg = compose(*like, "dtype=float32", *overrides)
        folder = tmp_path / name / "001"
        folder.mkdir(parents=True, exist_ok=True)
        return RunContext(cfg, identity(cfg), folder, cpu, lambda _: None)

    return made


@pytest.fixture(scope="module")
def small_files():
    """Files end after 20 kB, as on a disk that is full: what is longer cannot be written."""

    class Limited:
        def __enter__(self):
            self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, self.before[1]))

        def __exit__(self, *_):
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)

    return Limited()


def losses(run):
    return json.loads((run.folder / "losses.json").read_text())["loss"]


def test_after_a_kill_the_same_command_goes_on_and_ends_at_the_same_bits(trained):
    whole = trained("whole")
    train_model(whole)
    begun = Training(trained("killed"))
    for _ in range(5):  # the checkpoint is of step 4: what came after is lost
        begun.step()
    again = trained("killed")
    train_model(again)
    assert again.record.details["resumed_at_step"] == 4
    assert losses(again) == losses(whole)
    first, second = (load_file(run.folder / WEIGHTS) for run in (whole, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {tensor.dtype for tensor in first.values()} == {torch.bfloat16}


@pytest.mark.parametrize("recipe", ["float8_rowwise", "int8_weight_only"])
def test_a_recipe_goes_on_after_a_kill_and_ends_at_the_same_bits(trained, recipe):
    wider = "model.factory.attention_head_dim=32"  # small states are not quantized
    words = (
        f"quant=training/{recipe}",
        "training.emulate=true",
        "model.training.batch=16",
        wider,
        *NO_SAMPLES,
    )
    with torch.compiler.set_stance("force_eager"):  # torchao's optimizers compile their step
        whole = trained("whole", *words)
        train_model(whole)
        begun = Training(trained("killed", *words))
        for _ in range(3):
            begun.step()
        again = trained("killed", *words)
        train_model(again)
    assert again.record.details["resumed_at_step"] == 2
    assert losses(again) == losses(whole)
    first, second = (load_file(run.folder / WEIGHTS) for run in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_emulated_recipe_says_so_and_tells_no_speed(trained):
    words = ("training.emulate=true", "model.training.batch=16", *NO_SAMPLES)
    run, plain = trained("run", "quant=training/float8_rowwise", *words), trained("plain", *words)
    train_model(run)
    train_model(plain)
    assert run.record.outcome is Outcome.OK
    assert run.record.verdict == EMULATED
    assert "so its speed says nothing" in run.record.reason
    assert "training/step_ms" not in run.record.metrics
    assert run.record.metrics["emulated/training/step_ms"] > 0
    assert losses(run) == pytest.approx(losses(plain), rel=0.1)
    assert losses(run)[1:] != losses(plain)[1:]
    layers = {row["fqn"]: row for row in json.loads((run.folder / "layers.json").read_text())}
    assert layers["proj_out_2"]["reason"] == "N=4 is not a multiple of 16"
    assert run.record.metrics["quantize/layers"] == sum(bool(row["scheme"]) for row in layers.values()) > 4


def test_what_the_first_step_compiles_is_in_no_steps_time(trained, monkeypatch):
    clock = SimpleNamespace(now_s=0, monotonic=lambda: clock.now_s)

    def took(trainee, *_):
        clock.now_s += 20 if trainee.losses else 600
        trainee.losses.append(0.5)
        return 0.5

    monkeypatch.setattr("src.tasks.train.time", clock)
    monkeypatch.setattr("src.tasks.train.step", took)
    training, said = Training(trained("run", *NO_SAMPLES)), []
    training.run.report = said.append
    for _ in range(4):
        training.step()
    left = ["step 1 of 4, loss 0.500", "40 s left", "20 s left", "0 s left"]
    assert [line.rpartition("about ")[2] for line in said] == left
    training.finish()
    assert training.run.record.metrics["training/step_ms"] == 20_000


def test_a_recipe_without_its_device_is_unsupported(trained):
    with pytest.raises(RunEndedError, match="training/float8_rowwise needs a cuda device") as ended:
        train_model(trained("run", "quant=training/float8_rowwise"))
    assert ended.value.outcome is Outcome.UNSUPPORTED
    assert "training.emulate=true" in ended.value.remedy


def test_what_a_training_leaves(trained):
    run = trained("run")
    train_model(run)
    assert run.record.outcome is Outcome.OK
    assert "held out loss" in run.record.reason
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "losses.json",
        "samples_000003.png",
        "samples_000006.png",
        "weights",
    ]
    assert not (run.folder.parent / "checkpoint").exists()
    series = [(value, step) for name, value, step in points(run.record, run.folder) if "of_step" in name]
    assert series == [(loss, index) for index, loss in enumerate(losses(run))]
    loaded = replace(run.cfg.model.weights, source="local", id=str(run.folder / "weights"))
    from src.workloads.model import build_model

    model = build_model(replace(run.cfg.model, weights=loaded), torch.device("cpu"), torch.float32, 0)
    assert model.config.num_layers == 1


def test_a_checkpoint_on_another_disk_is_taken_from_there(trained, tmp_path, monkeypatch):
    def moved(source, target, own=os.rename):
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        own(source, target)

    monkeypatch.setattr(os, "rename", moved)
    monkeypatch.setattr(os, "replace", moved)
    run = trained("run", f"model.training.checkpoint={tmp_path / 'elsewhere'}")
    train_model(run)
    assert run.record.outcome is Outcome.OK
    assert sorted(path.name for path in run.folder.glob("*.png")) == [
        "samples_000003.png",
        "samples_000006.png",
    ]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.training.learning_rate=0.5", "model.training.learning_rate was 0.001 and is 0.5"),
        ("model.factory.num_layers=2", "model.factory.num_layers was 1 and is 2"),
        ("seed=1", "seed was 0 and is 1"),
        ("quant=training/adamw8bit", "quant was none and is training/adamw8bit and "),
        ("compile=default", "compile was none and is default and "),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(trained, change, said):
    begun = Training(trained("run"))
    begun.step()
    begun.step()
    with pytest.raises(ConfigError, match=said) as refused:
        train_model(trained("run", change))
    assert "\n" not in str(refused.value)
    assert "cannot be read" not in str(refused.value)
    assert (begun.folder / NAME).is_file()


def test_a_checkpoint_that_names_no_recipe_and_no_compile_mode_is_of_none(trained):
    begun = Training(trained("run", *NO_SAMPLES))
    begun.step()
    older = {name: value for name, value in begun.recipe.items() if name not in ("quant", "compile")}
    save_checkpoint(begun.trainee, older, begun.folder)
    assert load_checkpoint(begun.trainee, begun.recipe, begun.folder)


def test_a_checkpoint_of_when_all_seeds_drew_the_same_is_refused_unless_of_seed_0(trained):
    for name, seed, refused in (("none", 0, False), ("one", 1, True)):
        begun = Training(trained(name, *NO_SAMPLES, f"seed={seed}"))
        older = {key: value for key, value in begun.recipe.items() if key != "what is drawn"}
        begun.step()
        save_checkpoint(begun.trainee, older, begun.folder)
        if refused:
            with pytest.raises(
                ConfigError, match="what is drawn was by the step alone and is by seed and step;"
            ):
                load_checkpoint(begun.trainee, begun.recipe, begun.folder)
        else:
            assert load_checkpoint(begun.trainee, begun.recipe, begun.folder)


def test_each_seed_draws_its_own_batches_noise_and_times_and_seed_0_what_it_always_drew():
    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

        def forward(self, x, timestep, class_labels, return_dict):
            self.seen.append((x, timestep, class_labels))
            return (x * self.weight,)

    pictures, conf, drawn = digits()[0], TrainingConf(batch=8), []
    for seed in (0, 1, 999):
        watched = trainee(Watched(), conf)
        for _ in range(2):
            step(watched, FlowMatching(10), pictures, conf, seed)
        drawn += watched.model.seen
    for each in zip(*drawn, strict=True):
        assert not any(torch.equal(one, other) for one, other in combinations(each, 2))
    assert [seed_of(0, number) for number in range(3)] == [0, 1, 2]
    numbers = {seed_of(seed, number) for seed in range(50) for number in range(100)}
    assert len(numbers) == 5000
    assert max(numbers) < 2**32


def test_a_broken_checkpoint_is_named(trained):
    run = trained("run")
    (run.folder.parent / "checkpoint").mkdir()
    (run.folder.parent / "checkpoint" / NAME).write_bytes(b"half a file")
    with pytest.raises(ConfigError, match=r"checkpoint\.safetensors cannot be read .*move it away"):
        train_model(run)


def test_a_full_disk_leaves_the_checkpoint_before(trained, small_files):
    begun = Training(trained("run", "model.training.samples_every=0"))
    for _ in range(3):
        begun.step()
    with (
        small_files,
        pytest.raises(RunEndedError, match="the checkpoint of step 4 cannot be written") as full,
    ):
        begun.step()
    assert full.value.outcome is Outcome.FAILED
    assert "it goes on from the checkpoint" in full.value.remedy
    assert [path.name for path in begun.folder.iterdir()] == [NAME]
    later = Training(trained("run", "model.training.samples_every=0"))
    later.go_on()
    assert later.trainee.losses == begun.trainee.losses[:2]


def test_a_loss_that_is_no_number_ends_the_run(trained):
    run = trained("run", "model.training.learning_rate=1e30", "model.training.max_gradient_norm=1e30")
    with pytest.raises(RunEndedError, match=r"the loss of step \d is (nan|inf)") as ended:
        train_model(run)
    assert ended.value.outcome is Outcome.BAD_NUMERICS
    assert losses(run)


def test_a_classifier_learns_in_half_a_minute_what_digits_look_like(trained):
    shorter = ("task=train", "model=digits-classifier", "model.training.steps=60", "model.factory.width=8")
    run = trained("run", like=shorter)
    train_model(run)
    assert run.record.metrics["training/held_out_accuracy"] > 0.5


def test_pictures_are_the_same_every_time_and_some_are_held_out():
    given, held_out = digits()
    assert (len(given), len(held_out)) == (1437, 360)
    assert given.images.shape[1:] == (1, 16, 16)
    assert (given.images.min(), given.images.max()) == (-1, 1)
    assert set(held_out.labels.tolist()) == set(range(10))


def test_the_learning_rate_rises_then_falls(compose):
    conf = replace(compose(*TINY).model.training, steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(number, conf) for number in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_a_key_has_the_recipe_where_it_is_followed_and_the_weights_where_they_are_used(compose, tmp_path):
    device = {"kind": "cpu"}

    def key(*overrides):
        return run_key(compose(*overrides), device)

    train = ("task=train", "model=digits")
    assert key(*train) != key(*train, "model.training.steps=7")
    assert key(*train) == key(*train, "model.training.save_every=7", f"model.training.checkpoint={tmp_path}")
    assert key("model=digits") == key("model=digits", "model.training.steps=7")
    assert key("model=digits") != key("model=digits", "model.weights.id=digits-classifier")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=train"], "flux-tiny has no recipe; give model=digits"),
        (
            ["task=train", "model=digits", "quant=int8wo"],
            "trains the model as it is, or by a recipe; give quant=none",
        ),
        (["task=train", "model=digits", "training.steps=9"], "task=train takes model.training"),
        (
            ["task=train", "model=digits", "model.training.steps=0"],
            "model.training.steps=0: must be at least 1",
        ),
        (
            ["task=train", "model=digits", "model.training.objective.no_clas=1"],
            "model.training.objective.no_clas",
        ),
        (["model=digits", "model.weights.id=digit"], "none that comes along; did you mean digits?"),
    ],
)
def test_mistakes_are_one_line(called, words, said):
    done = called(*words, "tracking=none")
    assert done.status == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
