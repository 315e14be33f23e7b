"""What single layers will gain: a cost model fitted to what was measured, its correction, its reach."""
