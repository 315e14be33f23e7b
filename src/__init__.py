"""When does quantization pay? Measurements of torchao quantization in diffusion inference."""

import sys
from os.path import realpath

# This folder is a package. PYTHONPATH=src, as other projects want it, would find its `statistics` for Python's own.
sys.path[:] = [folder for folder in sys.path if realpath(folder) != realpath(__path__[0])]
