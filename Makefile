# make sweep   the main job: sweep quantization on this machine and say where it helps
# make test    the test suite                     make check   ruff and mypy
# make calibrate   prove on this machine that the instrument can be trusted
# make wheelhouse  every wheel for a machine without a package index, in dist/wheelhouse and one tar: docs/airgapped.md
#                  WHEELHOUSE_TORCH=yes  WHEELHOUSE_PYTHON=3.12  WHEELHOUSE_PLATFORM=manylinux_2_28_x86_64
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# A machine without an NVIDIA GPU needs no CUDA build of torch. Where pip's own index would give one (several GB),
# point TORCH_INDEX at an index of CPU wheels: make sweep TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
WHEELHOUSE_TORCH ?= no
# What is hardly ever imported is compiled when it is: a third of the sources.
SELDOM := /(tests?|testing|transformers/models|diffusers/pipelines|diffusers/modular_pipelines
SELDOM := $(SELDOM)|databricks|pip|matplotlib|mpl_toolkits|fontTools|mypyc?|pygments/lexers|sympy/physics|torchao/prototype)/

.PHONY: help sweep calibrate test check wheelhouse clean
help: # of a bare `make`
	@sed -n '1,5s/^# //p' $(firstword $(MAKEFILE_LIST))

sweep: $(READY)
	$(BIN)/python -m src.run -m quant=int8wo,float8dq,autoquant batch=1,4 $(ARGS)
	$(BIN)/python -m src.analyze

calibrate: $(READY)
	$(BIN)/python -m src.calibrate $(ARGS)

test: $(READY)
	$(BIN)/python -m tests.side_by_side $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheelhouse: # needs no torch here, so not the whole environment
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=24.1" "packaging>=24"
	$(if $(TORCH_INDEX),PIP_EXTRA_INDEX_URL=$(TORCH_INDEX)) $(BIN)/python -m tools.wheelhouse --torch $(WHEELHOUSE_TORCH) \
		$(if $(WHEELHOUSE_PYTHON),--python $(WHEELHOUSE_PYTHON)) \
		$(if $(WHEELHOUSE_PLATFORM),--platform $(WHEELHOUSE_PLATFORM)) $(ARGS)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("quantpay needs Python 3.11 or newer; set PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25" # older ones take minutes to resolve what this one does in seconds
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --index-url $(TORCH_INDEX) "torch>=2.11$(comma)<2.14")
	$(BIN)/python -m pip install --quiet --no-compile -e ".[dev]"
	$(BIN)/python -m compileall -q -j 0 -x '$(SELDOM)' $(VENV)/lib src >/dev/null || true # pip's own way is 3 times slower; templates are no Python
	touch $@

comma := ,

clean: # only what make itself made; outputs stay
	rm -rf $(VENV)
