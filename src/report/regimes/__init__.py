"""The sections of the report that say why: rules, forecasts, maps, whole models."""
