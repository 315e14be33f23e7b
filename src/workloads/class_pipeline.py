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
        config, device = self.transformer.config, class_labels.device
        sides = (height or config.sample_size, width or config.sample_size)
        shape = (len(class_labels), config.in_channels, *sides)
        images = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        labels = self._and_none(class_labels) if guidance_scale > 1 else class_labels
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for time in self.progress_bar(self.scheduler.timesteps):
            found = self._found(images, time, labels, guidance_scale)
            images = self.scheduler.step(found, time, images, return_dict=False)[0]
        return ((images / 2 + 0.5).clamp(0, 1),)

    def _and_none(self, labels: torch.Tensor) -> torch.Tensor:
        """The labels, and as many of no class: [2 batch]."""
        return torch.cat([labels, torch.full_like(labels, self.transformer.config.num_embeds_ada_norm)])

    def _found(
        self, images: torch.Tensor, time: torch.Tensor, labels: torch.Tensor, guidance_scale: float
    ) -> torch.Tensor:
        """What the denoiser finds in the pictures, float32; guided: with each label, away from that with none."""
        given = torch.cat([images, images]) if guidance_scale > 1 else images
        (found,) = self.transformer(
            given.to(self.transformer.dtype),
            timestep=time.expand(len(given)),
            class_labels=labels,
            return_dict=False,
        )
        found = found.float()
        if guidance_scale <= 1:
            return found  # type: ignore[no-any-return]
        with_class, without = found.chunk(2)
        return without + guidance_scale * (with_class - without)  # type: ignore[no-any-return]
