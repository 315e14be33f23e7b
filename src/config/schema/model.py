"""The typed schema of a model: how to construct and feed it, and the pipeline around it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from src.config.paths import ROOT, at_home
from src.config.schema.fields import GIVEN, aside, bounded, one_of
from src.config.schema.training import TrainingConf

PIPELINE = "pipeline"  # the target that is no part of the model but the pipeline around it
DOUBLED = "doubled"  # model.guidance: prompt and negative prompt in one call of the denoiser
DENOISER, VAE = "denoiser", "vae"  # components of a pipeline, as quant.components names them
RANDOM_WEIGHTS = "random weights"  # whose quality says nothing of how images look
TOKENS = "tokens"  # model.pipeline.prompt: the text encoders are part of the pipeline
_GIVEN = {"key": GIVEN}
INDEX = "model_index.json"  # in the folder of a whole pipeline: its class, and those of its parts
BOX = ROOT / "src" / "workloads" / "box"  # weights that this project has trained and brings along
TENSOR_DTYPES = (
    "bfloat16", "float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64",
)  # fmt: skip


@dataclass
class WeightsConf:
    """Where a model's weights come from."""

    source: str = one_of("random", "random", "box", "local", "hub")
    id: str | None = (
        None  # box: one that quantpay brings along; local: a folder that from_pretrained reads; hub: a
    )
    # repository id
    subfolder: str | None = None
    std: float | None = bounded(
        None, min=0.0
    )  # of random weights; null: by what each is and how deep the model is
    variant: str | None = field(
        default=None, metadata=_GIVEN
    )  # of the files: fp16 for diffusion_pytorch_model.fp16.safetensors
    revision: str | None = field(
        default=None, metadata=_GIVEN
    )  # of a hub repository: a branch, a tag or a commit
    arguments: dict[str, Any] = field(
        default_factory=dict, metadata=_GIVEN
    )  # further ones of from_pretrained

    def __post_init__(self) -> None:
        if self.source == "local" and self.id is not None:
            self.id = at_home(self.id)

    def folder(self) -> Path | None:
        """Where the files of weights on this machine lie; None for others."""
        return (
            Path(self.place(), self.subfolder or "") if self.source in ("box", "local") and self.id else None
        )

    def in_words(self) -> str:
        """What a reader of a quality must know: ``random weights``, or which ones."""
        if self.source == "random":
            return RANDOM_WEIGHTS
        return f"trained weights ({self.id})" if self.source == "box" else f"weights of {self.id}"

    def place(self) -> str:
        """What from_pretrained is given: a folder or a repository id."""
        return str(BOX / str(self.id)) if self.source == "box" else str(self.id)


@dataclass
class InputConf:
    """One example input tensor: its shape in named dimensions and how it is filled."""

    shape: list[Any] = MISSING  # integers or expressions: [batch, tokens, 64]; [] is a single number
    init: str = "src.workloads.inputs.normal"  # callable(shape, generator, device, dtype) -> Tensor
    fill: float | None = None  # a constant instead of `init`
    dtype: str | None = field(default=None, metadata={"choices": TENSOR_DTYPES})  # null: the run's dtype
    count: Any = field(
        default=None, metadata=_GIVEN
    )  # an expression: a list of so many tensors in place of one


@dataclass
class ComponentConf:
    """A further module of a pipeline: how to construct it, and its weights."""

    factory: dict[str, Any] = field(default_factory=dict)  # `_target_`, a class or a function; its arguments
    weights: WeightsConf = field(default_factory=WeightsConf)


@dataclass
class TextEncoderConf(ComponentConf):
    """A text encoder of a pipeline, and the token ids that stand for what its tokenizer gives."""

    tokenizer: str = "tokenizer"  # what the class calls the tokenizer in front of it
    tokens: int = bounded(77, min=1)  # ids per prompt
    end: int = bounded(1, min=0)  # the id that ends a prompt
    pad: int = bounded(0, min=0)  # the id behind the end of a prompt that is shorter


@dataclass
class PipelineConf:
    """A diffusers pipeline around a model: what `target=pipeline` measures, from prompt to images or a video."""

    _target_: str = ""  # the pipeline's class; what is not given here is left out; empty: none
    arguments: dict[str, Any] = field(
        default_factory=dict, metadata=_GIVEN
    )  # of the class, beside its modules: {expand_timesteps: true}
    weights: WeightsConf = field(
        default_factory=WeightsConf, metadata=_GIVEN
    )  # a whole pipeline that save_pretrained wrote: of its parts those without weights of their own, its tokenizers,
    # its scheduler
    denoiser: str = "transformer"  # what the class calls the model
    vae: ComponentConf = field(default_factory=ComponentConf)  # without a factory the pipeline has none
    parts: dict[str, ComponentConf] = field(
        default_factory=dict, metadata=_GIVEN
    )  # further modules, by the class's names
    scheduler: dict[str, Any] = field(default_factory=dict)  # `_target_` and constructor arguments
    steps: int = bounded(4, min=1)  # num_inference_steps
    guidance: float = 4.0  # guidance_scale
    frames_per_s: int = bounded(8, min=1, max=240, key=False)  # at which a video is shown
    latents: list[Any] = field(
        default_factory=list, metadata=_GIVEN
    )  # shape of what the VAE decodes; empty: of square images, by the VAE's blocks
    inputs: dict[str, Any] = field(default_factory=dict)  # as a model's, in place of the encoded prompt
    call: dict[str, Any] = field(
        default_factory=dict
    )  # further arguments of the pipeline's call, as a model's
    prompt: str = one_of(
        "embeddings", "embeddings", "tokens"
    )  # what a call begins with; tokens: it encodes them
    prompts: list[str] = field(
        default_factory=list, metadata=_GIVEN
    )  # texts that a call encodes, one for each sample or one for all; with `weights`, which have the tokenizers
    text_encoders: dict[str, TextEncoderConf] = field(
        default_factory=dict
    )  # with prompt=tokens or prompts; by the class's names
    call_with_tokens: dict[str, Any] = field(default_factory=dict)  # in place of those of `call`
    classifier: ComponentConf = field(
        default_factory=ComponentConf, metadata={"key": False}
    )  # tells the class of a picture [n, channels, height, width] in [-1, 1]
    samples: int = bounded(
        0, min=0, max=4096, key=False
    )  # pictures of which each arm draws so many after timing, for what they say of the quality

    def encodes(self) -> bool:
        """Whether a call encodes prompts, so that the text encoders are part of it."""
        return self.prompt == TOKENS or bool(self.prompts)

    def encoders(self) -> dict[str, TextEncoderConf]:
        """The text encoders that are part of a call, by the class's names."""
        return self.text_encoders if self.encodes() else {}

    def further(self) -> dict[str, ComponentConf]:
        """All modules beside the denoiser, by the class's names."""
        return ({VAE: self.vae} if self.vae.factory else {}) | self.parts | self.encoders()


@dataclass
class ModelConf:
    """A model as data: how to construct it, what to feed it, what inside it can be measured."""

    name: str = MISSING
    description: str = aside("")
    factory: dict[str, Any] = field(default_factory=dict)  # `_target_`, a class or a function; its arguments
    weights: WeightsConf = field(default_factory=WeightsConf)
    published_parameters: float | None = aside(None)  # as its makers count them; tests hold the factory to it
    resolution: int = 0  # pixels; the default of the axis `resolution`; 0: the model has none
    frames: int = field(
        default=0, metadata=_GIVEN
    )  # of a video; the default of the axis `frames`; 0: the model makes none
    guidance: str = field(
        default="none", metadata={"choices": ("none", DOUBLED, "twice"), "key": GIVEN}
    )  # how a step takes a negative prompt: in the same call, whose batch doubles; in a second call; not at all
    dims: dict[str, Any] = field(default_factory=dict)  # named dimensions, later ones may use earlier ones
    inputs: dict[str, Any] = field(
        default_factory=dict
    )  # name -> InputConf, or a list or set of them by name
    call: dict[str, Any] = field(
        default_factory=dict
    )  # further arguments of forward(), texts are expressions
    targets: dict[str, str] = field(default_factory=dict)  # target name -> module path inside the model
    training: TrainingConf = field(
        default_factory=TrainingConf, metadata={"key": False}
    )  # the recipe of task=train, whose runs have it in their key
    probe: bool = False  # stands for a part of a larger model: each call finds the caches cold
    pipeline: PipelineConf = field(default_factory=PipelineConf)  # around the model

    def __post_init__(self) -> None:
        """Of a whole pipeline's weights each part that has none of its own takes its subfolder."""
        whole = self.pipeline.weights
        parts: dict[str, ModelConf | ComponentConf] = {
            self.pipeline.denoiser: self,
            **self.pipeline.further(),
        }
        for name, part in parts.items() if whole.source != "random" else ():
            if part.weights.source == "random":
                part.weights = replace(whole, subfolder=name)

    def target_names(self) -> list[str]:
        """What `target` may be."""
        return [*self.targets, *([PIPELINE] if self.pipeline._target_ else [])]

    def component_names(self, target: str) -> list[str]:
        """What `quant.components` may name for a target."""
        return [DENOISER, *(self.pipeline.further() if target == PIPELINE else ())]
