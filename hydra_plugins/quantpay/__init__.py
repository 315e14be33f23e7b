"""Hydra plugins of quantpay; Hydra finds them by this package's place, so imports here must be cheap."""
