"""What whole models will gain: their layers by the forecasts and the rest of a call, put together."""
