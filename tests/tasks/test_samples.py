"""What a model with real weights draws, quantized and not: told in numbers, kept as pictures."""

import pytest
import torch
from PIL import Image

from src.quality.pictures import keep_pictures, sheet
from src.records.pictures import PICTURES_NAME, SHEET_NAME, broken, quality_words, strips, write_sheet
from src.records.record import Outcome
from src.records.store import sweep_folder
from tests.records.run_folders import make_run

FEW = ("model=digits", "model.pipeline.samples=10", "model.pipeline.steps=5")


def test_the_digits_of_a_quantized_model_are_still_recognised(compose, execute_run, tmp_path):
    record = execute_run(compose(*FEW, "quant=int8wo", "dtype=float32"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.details["weights"] == "trained weights (digits)"
    metrics = record.metrics
    assert metrics["quality/baseline_accuracy"] >= 0.9
    assert metrics["quality/accuracy"] >= 0.9
    assert metrics["quality/psnr_db"] > 35
    assert metrics["quality/sqnr_db"] > 30
    found = strips(tmp_path / "run")
    assert found.baseline.size == found.difference.size == (10 * 36, 36)
    assert write_sheet([tmp_path / "run"], tmp_path / SHEET_NAME)
    with Image.open(tmp_path / SHEET_NAME) as image:
        assert image.width > 2 * 360
    assert "recognised" in quality_words(record)


def test_a_whole_pipeline_takes_labels_for_prompts(compose, execute_run, tmp_path):
    record = execute_run(
        compose(
            *FEW,
            "target=pipeline",
            "quant=none",
            "batch=3",
            "dtype=float32",
            "model.pipeline.steps=2",
            "measure.min_pairs=3",
            "measure.max_pairs=3",
        )
    )
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["quality/max_abs_error"] == 0
    assert record.metrics["quality/accuracy"] == record.metrics["quality/baseline_accuracy"]
    assert strips(tmp_path / "run").baseline.size == (3 * 36, 36)


def test_random_weights_are_said_to_be_random(compose, execute_run, tmp_path):
    record = execute_run(compose("model=linear", "model.dims.M=4", "model.dims.K=32", "model.dims.N=32"))
    assert record.details["weights"] == "random weights"
    assert not (tmp_path / "run" / PICTURES_NAME).exists()


def drawing(folder, count=4, side=20, channels=3):
    generator = torch.Generator().manual_seed(0)
    both = torch.rand(2, count, channels, side, side, generator=generator)
    keep_pictures(*both, folder)


def test_a_sweeps_sheet_has_a_row_for_each_run_that_drew(outputs):
    folders = [make_run(outputs, f"key{n}", "sweep-1", quant=f"q{n}") for n in range(4)]
    path = sweep_folder(outputs, "sweep-1") / SHEET_NAME
    path.parent.mkdir(parents=True)
    assert not write_sheet(folders, path)
    assert not path.exists()
    drawing(folders[0])
    drawing(folders[1])
    assert write_sheet(folders, path)
    with Image.open(path) as image:
        two = image.height
    drawing(folders[2])
    (folders[3] / PICTURES_NAME).write_bytes(b"half a picture")  # nothing of it is lost to the others
    assert strips(folders[3]) is None
    assert broken(folders) == [folders[3] / PICTURES_NAME]
    assert write_sheet(folders, path)
    with Image.open(path) as image:
        assert image.height > two


@pytest.mark.parametrize(("frames", "shown"), [(1, 2), (2, 4), (9, 6)])
def test_of_a_video_its_first_middle_and_last_frame_are_shown(tmp_path, frames, shown):
    videos = torch.zeros(2, frames, 3, 32, 32)
    videos[:, -1] = 1
    keep_pictures(videos, videos, tmp_path)
    found = strips(tmp_path)
    assert found.baseline.size == (shown * 36, 36)
    assert found.baseline.getpixel((shown * 36 - 18, 18)) == (255, 255, 255)


@pytest.mark.parametrize(("side", "shown"), [(16, 32), (20, 40), (64, 64), (512, 256)])
def test_pictures_are_seen_at_a_size_that_can_be_looked_at(side, shown):
    assert sheet(torch.zeros(6, 1, side, side), columns=3).shape == (1, 2 * (shown + 4), 3 * (shown + 4))
