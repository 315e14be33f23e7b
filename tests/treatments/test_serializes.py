"""Whether each scheme can be saved as its file says, where a CPU runs or emulates it."""

import pytest
import torch

from src.devices.capability import Status, capability
from src.serialization.formats import READERS, WRITERS, RefusedError, tensor_classes
from tests.conftest import SMALL_LINEAR, schemes
from tests.treatments.conftest import same

CPU = torch.device("cpu")
SCHEMES = [name for name in schemes() if name not in ("none", "autoquant", "regime")]


def carried(state, format, path):
    """Whether a format gives the very same tensors back."""
    try:
        unsafe = WRITERS[format](state, path)
    except RefusedError:
        return False
    found = READERS[format](path, CPU, tensor_classes(state), False)
    return not unsafe and all(same(tensor, found[name]) for name, tensor in state.items())


@pytest.mark.parametrize("quant", SCHEMES)
def test_a_scheme_is_saved_as_its_file_says(make, compose, cpu, tmp_path, quant):
    workload = (*SMALL_LINEAR, f"quant={quant}", "quant.emulate=true")
    conf = compose(*workload).quant
    if capability(conf, cpu, "bfloat16").status is Status.UNSUPPORTED:
        pytest.skip("not on a CPU")
    state = dict(make(*workload).treated.module.state_dict())
    formats = {format for format in WRITERS if carried(state, format, tmp_path / format)}
    said = conf.on("cpu").serializes
    assert formats == set() if said == "none" else said in formats, formats
