# lathe: `make run` opens the explorer on the default model, `make test` runs the tests. Both set up what they need.
#
# LATHE_CACHE   where headers, the default model, calibration text and the XLA plugin are kept
# MODEL         what `make run` opens (default: the default model)
# GPU           what `make gpu` builds: vulkan or cuda (default: Vulkan where there is a GPU)

SHELL := /bin/bash
LATHE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lathe
export LATHE_CACHE

# GOEXPERIMENT=simd gives GoMLX's own backend its vector code. The include path goes through the environment and not
# through CGO_CPPFLAGS: it is then no part of Go's build cache key, so another cache folder is no nine-minute rebuild.
export GOEXPERIMENT := simd
export CGO_CFLAGS := -O3 -march=native -w
export CGO_CXXFLAGS := -O3 -march=native -w
export CPATH := $(LATHE_CACHE)/headers$(if $(CPATH),:$(CPATH))
export GOMLX_NO_AUTO_INSTALL := 1

# The program has the commit that it is built at, where git knows it.
STAMP := -buildvcs=$(if $(shell git rev-parse HEAD 2>/dev/null),true,false)

PYTHON ?= python3
BENCH ?= ./...

.PHONY: run test test-fast test-gpu test-server race build check setup headers gpu gpu-check gpu-search lint fuzz bench bench-workers golden dist env clean

run: setup build
	@bin/lathe $(MODEL)

build: check headers
	@if [ ! -x bin/lathe ]; then echo "lathe: building (the first build compiles llama.cpp: about 5 minutes on 2 cores)" >&2; fi
	@go build $(STAMP) -o bin/lathe ./tui/lathe

# The tools no step can do without, each with what to install.
check:
	@command -v go >/dev/null || { echo "lathe: go was not found: install Go 1.26 or later from your system or go.dev" >&2; exit 1; }
	@go version | grep -Eq 'go1\.(2[6-9]|[3-9][0-9])' || { echo "lathe: $$(go version) is too old: install Go 1.26 or later" >&2; exit 1; }
	@command -v $(firstword $(or $(CC),gcc)) >/dev/null || { echo "lathe: no C compiler: install gcc and g++ (Debian: apt install build-essential)" >&2; exit 1; }
	@command -v $(firstword $(or $(CXX),g++)) >/dev/null || { echo "lathe: no C++ compiler: install g++ (Debian: apt install build-essential)" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "lathe: python3 was not found: install Python 3 with pip (Debian: apt install python3-pip)" >&2; exit 1; }

headers: check
	@$(PYTHON) .ci/setup.py "$(LATHE_CACHE)" headers

setup: check
	@$(PYTHON) .ci/setup.py "$(LATHE_CACHE)"

# The engine's library for GPUs, built once into the cache: Vulkan for those of every vendor, or what GPU names (vulkan, cuda).
gpu: check
	@$(PYTHON) .ci/gpu/gpu.py "$(LATHE_CACHE)" build $(GPU)

# XLA for NVIDIA GPUs, which search and re-fits compute on: 2.5 GB of wheels.
gpu-search: check
	@$(PYTHON) .ci/setup.py "$(LATHE_CACHE)" xla-cuda

# Compiles two files of the CUDA library, with the system's nvcc or with NVIDIA's wheels. It needs no GPU.
gpu-check: check
	@$(PYTHON) .ci/gpu/gpu.py "$(LATHE_CACHE)" check

# The engine on Vulkan, on Mesa's software device: no GPU is needed. Without the packages the tests are skipped, with a warning.
GPU_TESTS := TestVulkan|TestFamilies|TestScoreAgrees|TestReuse|TestStops|TestCrashAndRestart|TestAbort|TestCloseInMidGeneration|TestQueueOfCallers|TestCancelLoad|TestSilence|TestChildDiesWithParent|TestBrokenChildren|TestLoadRefuses|TestTemplates
test-gpu: setup build
	@env=$$($(PYTHON) .ci/gpu/gpu.py "$(LATHE_CACHE)" test); status=$$?; \
	if [ $$status = 77 ]; then echo "lathe: WARNING: the tests on a GPU were skipped" >&2; exit 0; fi; \
	[ $$status = 0 ] && eval "$$env" && go test -count=1 -timeout 20m -run '$(GPU_TESTS)' ./infer/llamacpp && \
	  go test -count=1 -timeout 20m -run 'TestVulkan' ./infer/decoder ./tui/lathe

# The llama-server engine over a real server, that of PyPI's xllamacpp (34 MB, once): the contract of engines, and its greedy replies
# beside those of the built-in llama.cpp.
test-server: setup build
	@$(PYTHON) .ci/setup.py "$(LATHE_CACHE)" stock
	@PYTHONPATH="$(LATHE_CACHE)/stock" LATHE_STOCK_PYTHON="$$(command -v $(PYTHON))" go test -count=1 -timeout 20m -v -run TestReal ./infer/llamaserver

# Everything, on the real default model.
test: setup build
	go vet ./...
	go test -timeout 30m ./...

# Packages whose tests need neither a model nor a C compiler.
FAST := ./infer ./infer/durable ./infer/fake ./infer/gguf ./infer/hub ./infer/internal/... ./infer/memory ./infer/openai \
  ./infer/subnet ./reform/linalg ./reform/tune ./search/... ./explorer ./explorer/draft ./explorer/format ./explorer/internal/... \
  ./explorer/report ./tui ./tui/internal/... ./tui/sshserver ./tui/tuitest/...

test-fast:
	CGO_ENABLED=0 go test -tags nocgo $(FAST)

# The race detector itself needs a C compiler; the packages do not. It also checks pointer arithmetic, which GoMLX's vector
# code does not pass.
race: check
	CGO_ENABLED=1 go test -race -gcflags=all=-d=checkptr=0 -short -tags nocgo -timeout 20m $(FAST)

TOOLS := $(LATHE_CACHE)/tools
GOLANGCI := $(TOOLS)/golangci-lint-v2.15.0
DEADCODE := $(TOOLS)/deadcode-v0.47.0

$(GOLANGCI):
	@$(call install-tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0)

$(DEADCODE):
	@$(call install-tool,golang.org/x/tools/cmd/deadcode@v0.47.0)

# install-tool builds a pinned tool without the flags that llama.cpp is built with, and puts it under its target's name.
define install-tool
echo "lathe: building $(1)" >&2; mkdir -p $(TOOLS)/new && GOEXPERIMENT= CGO_ENABLED=0 GOBIN=$(TOOLS)/new go install $(1) && mv $(TOOLS)/new/$(notdir $(firstword $(subst @, ,$(1)))) $@
endef

lint: build $(GOLANGCI) $(DEADCODE)
	$(GOLANGCI) run ./...
	.ci/deadcode $(DEADCODE)

# Benchmarks, as Go benchmark lines on standard output. LATHE_TORCH=/path/python3 compares scoring with PyTorch;
# LATHE_SLOW=1 adds the comparison of search strategies, which takes an hour and more.
bench: setup build
	go test -run '^$$' -bench . -benchtime 3x -timeout 4h $(BENCH)

# What handing out a candidate costs, beside scoring it in the process; see search/docs/workers.md.
bench-workers:
	@CGO_ENABLED=0 go test -tags nocgo ./search/remote -run '^$$' -bench Overhead -benchtime $(or $(BENCHTIME),200x)

# Every fuzz target for FUZZTIME (default one minute each).
fuzz: build
	@set -e; git grep -l '^func Fuzz' -- '*_test.go' | while read -r file; do \
	  sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file" | while read -r target; do \
	    echo "$$(dirname "$$file") $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime "$(or $(FUZZTIME),1m)" -fuzzminimizetime 10x "./$$(dirname "$$file")"; \
	  done; done

# Writes the golden screens, the pages generated from the code and the recorded session anew.
golden: setup build
	go test ./tui ./tui/lathe -update
	LATHE_SLOW=1 LATHE_RECORD=1 go test ./tui -run TestRealSession -timeout 60m

# The archive of a release in bin/dist, for processors of the level DIST_MARCH: x86-64-v3 is every x86-64 processor with AVX2. With
# other flags than `make build` has, llama.cpp is compiled again once. DIST_MODEL=1 packs the default model too (98 MB).
DIST_MARCH ?= $(if $(filter x86_64 amd64,$(shell uname -m)),x86-64-v3,native)
dist: setup headers
	@mkdir -p bin/dist
	@CGO_CFLAGS="-O3 -march=$(DIST_MARCH) -w" CGO_CXXFLAGS="-O3 -march=$(DIST_MARCH) -w" go build $(STAMP) -trimpath -ldflags "-s -w" -o bin/dist/lathe ./tui/lathe
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) $(PYTHON) .ci/dist.py "$(LATHE_CACHE)" bin/dist/lathe bin/dist $(if $(DIST_MODEL),--model)

# Prints the build environment for a shell: eval "$(make -s env)".
env:
	@echo 'export GOEXPERIMENT=$(GOEXPERIMENT) CGO_CFLAGS="$(CGO_CFLAGS)" CGO_CXXFLAGS="$(CGO_CXXFLAGS)" CPATH="$(CPATH)" LATHE_CACHE="$(LATHE_CACHE)" GOMLX_NO_AUTO_INSTALL=1'

clean:
	rm -rf bin
