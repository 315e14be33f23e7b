# make sweep   the main job: sweep quantization on this machine and say where it helps
# make test    the test suite                     make check   ruff and mypy
# make calibrate   prove on this machine that the instrument can be trusted
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# A machine without an NVIDIA GPU needs no CUDA build of torch. Where pip's own index would give one (several GB),
# point TORCH_INDEX at an index of CPU wheels: make sweep TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

.PHONY: sweep calibrate test check clean
sweep: $(READY)
	$(BIN)/python -m src.run -m quant=int8wo,float8dq,autoquant batch=1,4 $(ARGS)
	$(BIN)/python -m src.analyze

calibrate: $(READY)
	$(BIN)/python -m src.calibrate $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("quantpay needs Python 3.11 or newer; set PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --index-url $(TORCH_INDEX) "torch>=2.11$(comma)<2.14")
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

comma := ,

clean: # only what make itself made; outputs stay
	rm -rf $(VENV)
