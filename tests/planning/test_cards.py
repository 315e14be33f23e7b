"""What is known of a device that this machine does not have."""

import pytest

from src.config.schema.root import GpuConf
from src.devices.capability import capability
from src.planning.cards import card_of
from tests.conftest import canonical
from tests.devices.test_capability import DEVICES, LETTERS, PREDICTED

COLUMNS = {device.compute_capability: place for place, device in enumerate(DEVICES)}
CARDS = sorted({*canonical("gpu")} - {"auto", "cpu"})


@pytest.fixture
def without_cuda(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize("gpu", CARDS)
def test_every_card_of_conf_is_described(compose, without_cuda, gpu):
    card = card_of(compose(f"gpu={gpu}").gpu)
    assert not card.here
    assert card.source == f"conf/gpu/{gpu}.yaml"
    assert card.device is not None
    assert card.device.compute_capability is not None
    assert 8.0 <= card.device.compute_capability <= 10.0
    assert card.memory_gib is not None
    assert 20 < card.memory_gib < 200


def test_schemes_are_predicted_for_a_card_as_for_any_device_of_its_capability(
    compose, without_cuda, monkeypatch
):
    monkeypatch.setattr("src.devices.capability.find_spec", lambda name: name)
    schemes = {name: compose(f"quant={name}").quant for name in ("float8dq", "float8dq_2to4", "mxfp8")}
    for gpu in CARDS:
        device = card_of(compose(f"gpu={gpu}").gpu).device
        assert device is not None
        for name, conf in schemes.items():
            expected = PREDICTED[name][COLUMNS[device.compute_capability]]
            assert LETTERS[capability(conf, device, "bfloat16").status] == expected, (gpu, name)


def test_elsewhere_this_machines_device_says_nothing(compose):
    gpu = compose("gpu=h100").gpu
    assert card_of(gpu, elsewhere=True).source == "conf/gpu/h100.yaml"
    assert card_of(compose("gpu=cpu").gpu, elsewhere=True).source == "this machine's, taken for theirs"


def test_a_card_of_which_nothing_is_said_is_not_known(without_cuda):
    card = card_of(GpuConf(name="mine", match="nothing like it"))
    assert card.device is None
    assert card.memory_gib is None
    assert card.source == "gpu=mine: no CUDA device on this machine"
    assert card.remedy


def test_memory_may_be_unknown(without_cuda):
    card = card_of(GpuConf(name="mine", compute_capability=9.0))
    assert card.device is not None
    assert card.memory_gib is None
