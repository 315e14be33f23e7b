"""A folder of weights is looked at before the run: whether it is there, of which variant, and unquantized."""

from pathlib import Path

import pytest

from src.config.model_schema import WeightsConf
from src.workloads.weights import problems_of_weights

WHERE = "model.weights"


def problems(folder: Path | str, **given: object) -> list[str]:
    weights = WeightsConf(source="local", id=str(folder), **given)  # type: ignore[arg-type]
    return list(problems_of_weights(weights, WHERE))


def test_whole_checkpoints_are_accepted(checkpoints: Path) -> None:
    for name in ("plain", "pipeline/transformer"):
        assert problems(checkpoints / name) == []
    assert problems(checkpoints / "pipeline", subfolder="transformer") == []
    for name in ("fp16", "shards"):
        assert problems(checkpoints / name, variant="fp16") == []


def test_home_is_where_it_is(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkpoints))
    assert problems("~/plain") == []
    assert WeightsConf(source="local", id="~/plain").id == str(checkpoints / "plain")
    assert WeightsConf(source="hub", id="~/plain").id == "~/plain"
    (said,) = problems("~/plane")
    assert said.startswith(
        f"model.weights.id={checkpoints}/plane: no folder {checkpoints}/plane; give a folder"
    )


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("pipeline", {}, "no config.json in {0}/pipeline; give model.weights.subfolder=transformer"),
        (
            "pipeline",
            {"subfolder": "unet"},
            "no folder {0}/pipeline/unet; give model.weights.subfolder=transformer",
        ),
        ("plain", {"variant": "fp16"}, "variant=fp16: no such files in {0}/plain; accepted: none; or null"),
        ("fp16", {}, "variant=null: {0}/fp16 has only files of a variant; give model.weights.variant=fp16"),
        ("shards", {"variant": "bf16"}, "variant=bf16: no such files in {0}/shards; accepted: fp16"),
        ("int8", {}, "is Int8Tensor, the first of 24 such parameters; give an unquantized checkpoint"),
        ("partly_int8", {}, "task=serialize serialize.load={0}/partly_int8"),
        (
            "float8",
            {},
            "blocks.0.attn1.to_k.weight is float8_e4m3fn, the first of 20 such parameters; give an",
        ),
        (
            "plain",
            {"arguments": {"quantization_config": {}}},
            "arguments.quantization_config: is not given here",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_give(
    checkpoints: Path, name: str, given: dict[str, object], said: str
) -> None:
    (problem,) = problems(checkpoints / name, **given)
    assert said.format(checkpoints) in problem
    assert problem.startswith(f"{WHERE}.")


@pytest.mark.parametrize("content", [b"", b"\x05\0\0\0\0\0\0\0hello", b"\xff" * 32, b"\x02\0\0\0\0\0\0\0[]"])
def test_damaged_files_are_left_to_loading(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert problems(tmp_path) == []
