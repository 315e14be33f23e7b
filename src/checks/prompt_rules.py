"""What a pipeline that encodes prompts needs: text encoders, and for real prompts what its makers trained."""

from collections.abc import Iterator, Mapping

from src.config.schema.model import PIPELINE, PipelineConf
from src.config.schema.root import RootConf

_POSITIONS = "max_position_embeddings"
_KEY, _USUAL = "model.pipeline.prompts", "model.pipeline.prompt=embeddings"
_WANTED = "give model.pipeline.weights={source: local, id: FOLDER}, of a whole pipeline"


def prompt_mistakes(root: RootConf) -> Iterator[str]:
    """One line for each mistake; none where nothing is encoded."""
    pipeline, name = root.model.pipeline, root.model.name
    if root.target != PIPELINE or not pipeline.encodes():
        return
    texts, random = pipeline.prompts, pipeline.weights.source == "random"
    asked, instead = (_KEY, f"{_KEY}=[]") if texts else ("model.pipeline.prompt=tokens", _USUAL)
    unmade = [part for part, each in pipeline.text_encoders.items() if [*each.factory] == ["_target_"]]
    if not pipeline.text_encoders:
        yield f"{asked}: {name} has no model.pipeline.text_encoders; give {instead}"
    elif texts and random:
        yield f"{asked}: text encoders with random weights understand nothing, and have no tokenizers; {_WANTED}"
    elif unmade and not (texts or random):
        told = f"token ids cannot stand for the tokenizer of {name}'s {unmade[0]}"
        yield f"{asked}: {told}; give {_KEY}=[TEXT] too, or {_USUAL}"
    elif unmade and random:
        yield f"{asked}: what {name}'s {unmade[0]} is made of, only its weights say; {_WANTED}, or {_USUAL}"
    yield from _lengths(pipeline)
    if len(texts) not in (0, 1, root.batch):
        yield f"{_KEY}: {len(texts)} texts with batch={root.batch}; give batch={len(texts)}, or one text for all"


def _lengths(pipeline: PipelineConf) -> Iterator[str]:
    """Token ids that are more than a text encoder made here has positions for."""
    for name, each in pipeline.encoders().items():
        config = each.factory.get("config")
        most = config.get(_POSITIONS) if isinstance(config, Mapping) else None
        if isinstance(most, int) and each.tokens > most and each.weights.source == "random":
            key = f"model.pipeline.text_encoders.{name}"
            yield f"{key}.tokens={each.tokens}: at most {most}, its {_POSITIONS}; give {key}.tokens={most}"
