"""A whole diffusers pipeline as one module: every denoising step, the scheduler, and the VAE's decoding."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from torch import nn

from src.config.errors import ConfigError, accepted
from src.config.schema import PipelineConf, RootConf
from src.workloads.inputs import make_inputs
from src.workloads.model import build_model, weights_made_on

_WHERE = "model.pipeline"


class ImagePipeline(nn.Module):
    """A diffusers pipeline whose forward generates images, from the same initial latents at each call.

    Denoiser and VAE are submodules under the names that the pipeline gives them.

    Args:
        pipeline: a text-to-image DiffusionPipeline.
        denoiser: what it calls its denoiser.
        seed: of the initial latents, and of whatever else the scheduler draws.
    """

    def __init__(self, pipeline: Any, denoiser: str, seed: int) -> None:
        super().__init__()
        self.pipeline, self.denoiser_name, self.seed = pipeline, denoiser, seed
        for name in (denoiser, "vae"):
            self.add_module(name, pipeline.components[name])

    @property
    def denoiser(self) -> nn.Module:
        """The module that is called at every step."""
        return self.get_submodule(self.denoiser_name)

    def forward(self, **arguments: Any) -> torch.Tensor:
        """Images [batch, 3, height, width] in [0, 1], float32.

        A scheduler starts afresh at every call: pipelines set its timesteps first.
        """
        generator = torch.Generator(device=self.pipeline.device).manual_seed(self.seed)
        images = self.pipeline(**arguments, generator=generator, output_type="pt", return_dict=False)[0]
        assert isinstance(images, torch.Tensor)
        return images.float()


def build_pipeline(
    cfg: RootConf, denoiser: nn.Module, dims: Mapping[str, int], device: torch.device
) -> tuple[ImagePipeline, tuple[()], dict[str, Any]]:
    """The pipeline around a denoiser, and the arguments of one call to it.

    Raises:
        ConfigError: the class has no such component, or weights or shapes don't resolve.
    """
    conf, dtype = cfg.model.pipeline, getattr(torch, cfg.dtype)
    vae = build_model(conf.vae, device, dtype, cfg.seed + 2, f"{_WHERE}.vae", weights_made_on(cfg))
    arguments = make_inputs(conf, dims, device, dtype, cfg.seed + 1, _WHERE) | {
        "num_inference_steps": conf.steps,
        "guidance_scale": conf.guidance,
        "height": cfg.resolution,
        "width": cfg.resolution,
    }
    return assemble(cfg, denoiser, vae), (), arguments


def assemble(cfg: RootConf, denoiser: nn.Module, vae: nn.Module) -> ImagePipeline:
    """The pipeline of its two modules.

    Raises:
        ConfigError: the class has no such component.
    """
    conf = cfg.model.pipeline
    return ImagePipeline(_assembled(conf, denoiser, vae), conf.denoiser, cfg.seed + 3)


def _assembled(conf: PipelineConf, denoiser: nn.Module, vae: nn.Module) -> Any:
    """The pipeline of its components; those that it requires and that are not given (text encoders) are None."""
    cls = get_class(conf._target_)
    scheduler = instantiate(conf.scheduler, _convert_="all")
    given = {conf.denoiser: denoiser, "vae": vae, "scheduler": scheduler}
    known = inspect.signature(cls).parameters
    for name in given.keys() - known.keys():
        raise ConfigError(f"{_WHERE}: {cls.__name__} has no component {name}; {accepted(name, known)}")
    absent = {name: None for name, p in known.items() if p.default is p.empty and name not in given}
    pipeline = cls(**absent, **given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
