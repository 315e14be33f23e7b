"""What was measured of single layers: cells of own runs, of imports, and of devices that travel with the program."""
