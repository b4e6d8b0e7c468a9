# Each target sets up its own .venv; every one is safe to run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := $(VENV)/.site
DEMO := $(VENV)/.demo
OUT ?= demo-out
JOBS ?= 2
KERNELS := $(wildcard $(addprefix src/samtrt/tensorrt/plugin/csrc/,*.* operators/*) \
	src/samtrt/*/*.cu tests/kernels/emulator/* examples/cpp/*.h examples/cpp/*.cpp tests/examples/*.cpp)

.PHONY: demo test test-long lint format web pictures site clean

demo: $(DEMO)
	$(BIN)/samtrt demo -o $(OUT)

# What schemathesis does is test-long's, and to load it takes every process two seconds. Without
# bytecode on disk, every process would compile what it imports anew.
test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
		-p no:schemathesis --ignore=tests/server/test_openapi.py

# What takes long: real clusters and Triton, SAM 2 as engines, the page in depth, the bundled weights,
# all kernels by nvcc, the API by schemathesis.
test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(KERNELS)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS)

# What the demo and `samtrt serve`, which it ends with, need, and no more. src/ holds samtrt_assets and samtrt_page too, so that their
# distributions need not be installed here.
$(DEMO): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	@echo "Installing PyTorch and ONNX, to export with, and ONNX Runtime, to run with: a minute or two"
	$(BIN)/python -m pip install -c constraints.txt -e ".[cli,export,ort,server]"
	touch $@

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[cli,ort,openvino,export,server,rtx,lean,geo,hub,ray,s3,triton,otel,video]" --group dev
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --group tools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --group triton
	SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --no-build-isolation --group sam2
	touch $@

# The built page is committed, so that only who changes it needs Node.js (20 or newer).
web:
	cd web && npm ci --no-audit --no-fund && npm run build

# After weights or page have changed: what README and docs show of them. Needs Chromium.
pictures: $(STAMP)
	$(BIN)/python bench/pictures.py

# The documents as a site in build/site; a warning, such as a link that leads nowhere, ends it.
site: $(SITE)
	$(BIN)/python -m mkdocs build --strict

$(SITE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs
	touch $@

clean:
	rm -rf $(VENV) $(OUT) dist build/site .mypy_cache .ruff_cache .pytest_cache
