import importlib.util
import math
import subprocess
import sys

import pytest
import torch

from src.outcomes import RunEndedError
from src.quality.images import compare_images, lpips, psnr
from src.records.record import Outcome
from tests.conftest import ROOT


def images(n=2, side=64, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_known_psnr():
    black = torch.zeros(2, 3, 4, 4)
    treated = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)])
    assert psnr(black, treated) == {
        "quality/psnr_db": pytest.approx(30.0, abs=1e-4),  # 20 and 40
        "quality/psnr_worst_db": pytest.approx(20.0, abs=1e-4),
    }


def test_psnr_is_that_of_the_noise():
    x = torch.full((1, 3, 256, 256), 0.5)
    noisy = x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert psnr(x, noisy)["quality/psnr_db"] == pytest.approx(-20 * math.log10(0.02), abs=0.1)


def test_an_equal_image_has_no_finite_psnr_and_does_not_count():
    x = images()
    assert psnr(x, x.clone()) == {}
    other = x.clone()
    other[1] += 0.1
    found = psnr(x, other)
    assert found["quality/psnr_db"] == found["quality/psnr_worst_db"] == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pictures_that_are_no_numbers_end_a_run(value):
    x = images(n=3)
    broken = x + 0.1
    broken[:2, 0, 0, 0] = value
    with pytest.raises(RunEndedError, match="2 of the 3 treated pictures hold NaN or infinity") as end:
        compare_images(x, broken)
    assert end.value.outcome is Outcome.BAD_NUMERICS
    with pytest.raises(RunEndedError, match="the unquantized baseline itself"):
        psnr(broken, x)


def test_images_are_compared_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    metrics, how = compare_images(images(), images(seed=1))
    assert set(metrics) == {"quality/psnr_db", "quality/psnr_worst_db"}
    assert how.startswith("not measured: ModuleNotFoundError:")
    assert how.endswith('pip install -e ".[images]"')


def test_nothing_is_imported_before_it_is_needed():
    optional = ("torchmetrics", "torchvision.models")
    if not any(importlib.util.find_spec(name.partition(".")[0]) for name in optional):
        pytest.skip("neither library is installed")
    code = f"import sys, src.tasks.latency; print([name for name in {optional} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "[]"


class TestWithTheLibrary:
    """With torchmetrics and torchvision, where they are installed."""

    @pytest.fixture(autouse=True)
    def weights_folder(self, tmp_path, monkeypatch):
        pytest.importorskip("torchmetrics")
        pytest.importorskip("torchvision", exc_type=Exception)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        folder = tmp_path / "hub" / "checkpoints"
        folder.mkdir(parents=True)
        return folder

    @pytest.fixture
    def random_weights(self, weights_folder):
        """Random weights in AlexNet's place: distances mean nothing, only their identities and their order do."""
        from torchvision.models import AlexNet_Weights, alexnet

        torch.manual_seed(0)
        name = AlexNet_Weights.DEFAULT.url.rsplit("/", 1)[1]
        torch.save(alexnet(weights=None).state_dict(), weights_folder / name)

    def test_without_the_weights_it_says_where_they_belong(self, weights_folder):
        metrics, how = lpips(images(), images(seed=1))
        assert metrics == {}
        assert how.startswith(f"not measured: FileNotFoundError: no AlexNet weights at {weights_folder}")
        assert "alexnet(weights='DEFAULT')" in how
        assert list(weights_folder.iterdir()) == []

    @pytest.mark.usefixtures("random_weights")
    def test_identities(self):
        x = images()
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        near, far = ((x + amount * noise).clamp(0, 1) for amount in (0.05, 0.5))
        distances = [lpips(x, other)[0]["quality/lpips"] for other in (x, near, far)]
        assert distances[0] == 0
        assert 0 < distances[1] < distances[2]
        assert lpips(near, x)[0]["quality/lpips"] == pytest.approx(distances[1], rel=1e-4)

    @pytest.mark.usefixtures("random_weights")
    def test_it_is_a_mean_over_the_images(self):
        x, y = images(), images(seed=1)
        each = [lpips(x[i : i + 1], y[i : i + 1])[0]["quality/lpips"] for i in range(2)]
        metrics, how = lpips(x, y)
        assert metrics["quality/lpips"] == pytest.approx(sum(each) / 2, rel=1e-4)
        assert how.startswith("AlexNet, torchmetrics ")

    @pytest.mark.usefixtures("random_weights")
    def test_an_image_too_small_for_alexnet_is_a_reason(self):
        metrics, how = lpips(images(side=16), images(side=16, seed=1))
        assert metrics == {}
        assert how.startswith("not measured: RuntimeError")

    def test_a_broken_file_is_a_reason(self, weights_folder):
        (weights_folder / "alexnet-owt-7be5be79.pth").write_bytes(b"not weights")
        metrics, how = lpips(images(), images(seed=1))
        assert metrics == {}
        assert how.startswith("not measured: ")
