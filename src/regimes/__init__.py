"""Where quantization pays and why: a cost model fitted to what was measured, its rules, its forecasts, its tests."""
