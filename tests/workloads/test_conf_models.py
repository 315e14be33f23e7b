"""Every conf/model entry but the small ones: constructed, fed and called at its real size, without memory."""

import inspect

import pytest

from docs.make_model_tables import NAMES, PAGE, counted, line, published
from src.compilation.scopes import repeated_blocks

NO_BLOCKS = {"linear", "digits-classifier"}


def rounding(cfg):
    """Half of the last digit of the published number: 32 billion say no more than 31.5 to 32.5."""
    digits, _, power = f"{cfg.model.published_parameters:.6e}".partition("e")
    decimals = len(digits.rstrip("0").partition(".")[2])
    return 0.5 * 10 ** (int(power) - decimals)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-tiny")])
def test_one_forward_of_its_real_size(compose, name):
    cfg = compose(f"model={name}", "quant=int8wo", "layers=field_default")
    assert cfg.model.name == name
    assert cfg.model.description
    seen = counted(cfg)
    assert set(seen.inputs) <= set(inspect.signature(seen.model.forward).parameters)
    assert cfg.target in cfg.model.targets
    for path in cfg.model.targets.values():
        assert any(f"{row.name}.".startswith(f"{path}." if path else "") for row in seen.rows)
    if name not in NO_BLOCKS:
        blocks = repeated_blocks(seen.model)
        assert len(blocks) > 1
        assert seen.model not in blocks
    if published(cfg):
        parameters = sum(each.numel() for each in seen.model.parameters())
        assert parameters == pytest.approx(cfg.model.published_parameters, rel=0.005, abs=rounding(cfg))
        assert line(cfg, seen) in PAGE.read_text(), "python docs/make_model_tables.py makes the table again"
