"""A configuration that runs elsewhere: paths that mean the same whatever folder the job starts in."""

import re
from dataclasses import replace
from pathlib import Path

from src.config.schema import RootConf, TrackingConf, WeightsConf
from src.launching.snapshot import Snapshot

_SQLITE = re.compile(r"sqlite:///(?!/)(.+)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def travelling(cfg: RootConf, outputs: Path, snapshot: Snapshot) -> RootConf:
    """The configuration with every path absolute; a plan is taken into the snapshot.

    Args:
        cfg: validated; paths in it are relative to this process' folder.
        outputs: absolute.
        snapshot: of the sweep.
    """
    pipeline, vae = cfg.model.pipeline, cfg.model.pipeline.vae
    vae = replace(vae, weights=_weights(vae.weights))
    model = replace(cfg.model, weights=_weights(cfg.model.weights), pipeline=replace(pipeline, vae=vae))
    plan = None if cfg.quant.plan is None else str(snapshot.keep(Path(cfg.quant.plan)))
    return replace(
        cfg,
        model=model,
        quant=replace(cfg.quant, plan=plan),
        tracking=_tracking(cfg.tracking),
        outputs=str(outputs),
    )


def _weights(weights: WeightsConf) -> WeightsConf:
    local = weights.source == "local" and weights.id is not None
    return replace(weights, id=str(Path(weights.id or "").absolute())) if local else weights


def _tracking(tracking: TrackingConf) -> TrackingConf:
    database = _SQLITE.fullmatch(tracking.uri)
    uri = f"sqlite:///{Path(database[1]).absolute()}" if database else _place(tracking.uri)
    artifacts = None if tracking.artifacts is None else _place(tracking.artifacts)
    return replace(tracking, uri=uri, artifacts=artifacts)


def _place(text: str) -> str:
    """A path made absolute; what has a scheme (http:, s3:), and nothing at all, stays."""
    return text if not text or _SCHEME.match(text) else str(Path(text).absolute())
