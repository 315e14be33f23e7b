"""Token ids in place of a tokenizer: nothing is downloaded, and a pipeline encodes them as it would a prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from src.config.schema.model import TextEncoderConf

PROMPT = "random token ids"  # any text stands for them, but the empty one
_WORDS_FROM = 3  # the ids below are special in the vocabularies that count


class TokenIds:
    """What diffusers' pipelines ask of a tokenizer, with ids drawn once for each prompt of the batch.

    Args:
        conf: how many ids, and which of them end and pad a prompt.
        vocabulary: ids are below it.
        batch: prompts.
        seed: of the ids, which are the same on every device.
    """

    added_tokens_encoder: Mapping[str, int] = {}

    def __init__(self, conf: TextEncoderConf, vocabulary: int, batch: int, seed: int) -> None:
        self.model_max_length, self.end = conf.tokens, conf.end
        generator = torch.Generator().manual_seed(seed)
        words = torch.randint(_WORDS_FROM, vocabulary, (batch, conf.tokens), generator=generator)
        self.prompts = words.masked_fill(words == conf.end, _WORDS_FROM)
        self.prompts[:, -1] = conf.end
        self.empty = torch.full((conf.tokens,), conf.pad)
        self.empty[0] = conf.end

    def tokenize(self, text: str) -> list[str]:
        """No token of a text is one that a textual inversion added."""
        return []

    def encode(self, text: str) -> list[int]:
        """None: what a pipeline puts before a prompt is not counted."""
        return []

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
        """The text itself, without a template."""
        return messages[0]["content"]

    def __call__(self, texts: str | Sequence[str], **options: Any) -> Any:
        """A BatchEncoding of ids and attention mask, [prompts, tokens], on the host.

        A text is a prompt of full length, or of `max_length` if that is less; an empty one is nothing but its end.
        """
        from transformers import BatchEncoding  # importing it takes a while

        texts = [texts] if isinstance(texts, str) else texts
        most = min(self.model_max_length, options.get("max_length") or self.model_max_length)
        ids = torch.stack([self.prompts[row] if text else self.empty for row, text in enumerate(texts)])
        ids = ids[:, :most].clone()
        ids[[bool(text) for text in texts], -1] = self.end
        mask = torch.ones_like(ids)
        for row, text in enumerate(texts):
            if not text:
                mask[row, 1:] = 0
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})
