"""A pipeline from class labels to pictures, for a denoiser that works on the pictures themselves: no VAE."""

from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor


class ClassPipeline(DiffusionPipeline):  # type: ignore[misc]
    """As diffusers' DiTPipeline, which knows ImageNet's thousand classes only and needs a VAE.

    Args:
        transformer: a DiTTransformer2DModel whose last class embedding is that of no class.
        scheduler: of diffusers.
    """

    def __init__(self, transformer: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: torch.Tensor,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        num_inference_steps: int = 16,
        height: int | None = None,
        width: int | None = None,
        output_type: str = "pt",
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """Pictures [batch, channels, height, width] in [0, 1].

        Args:
            class_labels: [batch].
            guidance_scale: above 1 the batch of each call doubles: with each label, and with that of no class.
            generator: of the noise that the pictures begin as.
            num_inference_steps: calls of the denoiser.
            height: in pixels, as the denoiser was made for, and so the width.
            width: as the height.
            output_type: pt, which is all there is.
            return_dict: false, which is all there is.
        """
        config, guided = self.transformer.config, guidance_scale > 1
        shape = (
            len(class_labels),
            config.in_channels,
            height or config.sample_size,
            width or config.sample_size,
        )
        images = randn_tensor(shape, generator=generator, device=class_labels.device, dtype=torch.float32)
        labels = class_labels
        if guided:
            labels = torch.cat([labels, torch.full_like(labels, config.num_embeds_ada_norm)])
        self.scheduler.set_timesteps(num_inference_steps, device=class_labels.device)
        for time in self.progress_bar(self.scheduler.timesteps):
            given = torch.cat([images, images]) if guided else images
            (found,) = self.transformer(
                given.to(self.transformer.dtype),
                timestep=time.expand(len(given)),
                class_labels=labels,
                return_dict=False,
            )
            if guided:
                with_class, without = found.float().chunk(2)
                found = without + guidance_scale * (with_class - without)
            images = self.scheduler.step(found.float(), time, images, return_dict=False)[0]
        return ((images / 2 + 0.5).clamp(0, 1),)
