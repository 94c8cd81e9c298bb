# The project's commands. Each installs what it lacks: Python packages into .venv, and as root Debian
# packages by apt-get. Without root it says what to install and runs all that can run.
#
#   make demo    a device, a driver and a real guest            make lint    ruff, mypy, stubtest
#   make test    the tests                                      make bench   against qemu-storage-daemon
#   make docs    the documentation as HTML                      make fuzz    the fuzzers, for a minute each
#   make test-sanitize   the rings under ASAN and UBSAN         make integrity   every byte, for minutes
#   make instructions    has a request become dearer?           make clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

BUILD_PACKAGES := python3-venv python3-dev
# Built with where it can be had; elsewhere threads do what io_uring would.
OPTIONAL_PACKAGES := liburing-dev
# What a real guest needs, and what the tests and benchmarks compare with.
DEMO_PACKAGES := $(BUILD_PACKAGES) user-mode-linux qemu-system-x86 linux-image-cloud-amd64 busybox-static e2fsprogs passt
TEST_PACKAGES := $(DEMO_PACKAGES) qemu-system-common qemu-utils seabios ipxe-qemu dnsmasq-base mount iproute2 \
	iperf3 ethtool tshark dpdk-dev valgrind

COMPILED := $(wildcard src/virtio/*/*.pxd src/virtio/*/*/*.pxd)
# An editable install knows the modules there were: folders change when one comes or goes.
FOLDERS := $(shell find src -type d ! -name __pycache__)
COMPILED_SOURCES := $(COMPILED) $(wildcard $(COMPILED:.pxd=.py)) CMakeLists.txt pyproject.toml

.PHONY: build demo test test-sanitize lint bench bench-docs bench-tools instructions docs fuzz integrity clean
build: $(VENV)/.installed

$(VENV)/.created:
	tools/debian-packages $(BUILD_PACKAGES)
	-tools/debian-packages $(OPTIONAL_PACKAGES)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.tools: pyproject.toml | $(VENV)/.created
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install "scikit-build-core>=0.11" "cython>=3.2,<3.4" "cython-cmake>=0.2" "cmake<4.4" ninja \
		--group test --group lint --group bench
	touch $@

$(VENV)/.installed: $(COMPILED_SOURCES) $(FOLDERS) | $(VENV)/.tools
	$(PIP) install --no-build-isolation --editable .
	touch $@

demo: build
	tools/debian-packages $(DEMO_PACKAGES)
	$(BIN)/virtio demo

test: build
	tools/debian-packages $(TEST_PACKAGES)
	$(BIN)/python -m pytest

# Compiled modules of their own, beside the usual ones; the interpreter is the system's, with the tests' tools
# on its path, because the environment's own would find the usual ones first. Python keeps its small objects
# from the sanitizer's sight unless it is told to use malloc, and frees little at its exit.
SANITIZED := build/sanitize
PRELOADED = $(shell cc -print-file-name=libasan.so) $(shell cc -print-file-name=libubsan.so)
SITE = $(shell $(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

test-sanitize: build
	$(PIP) install --no-build-isolation --no-deps --upgrade --target $(SANITIZED)/site \
		-C build-dir=$(SANITIZED)/cmake -C cmake.define.VIRTIO_SANITIZE=ON .
	LD_PRELOAD="$(PRELOADED)" ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0 UBSAN_OPTIONS=print_stacktrace=1 \
		PYTHONMALLOC=malloc PYTHONPATH=$(CURDIR)/$(SANITIZED)/site:$(SITE) \
		$(PYTHON) -m pytest -p no:cacheprovider tests/memory tests/virtqueue tests/devices/test_net_hostile.py

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_stubs.py

# BENCH=--quick only shows that it works; see bench/README.md. bench-docs also fills the documents' tables.
BENCH ?=
BENCH_RESULTS := build/bench/results
bench-tools: build
	tools/debian-packages qemu-system-common fio valgrind gcc libc6-dev
bench: bench-tools
	mkdir -p $(dir $(BENCH_RESULTS))
	$(BIN)/python bench --json $(BENCH_RESULTS).json --plot $(BENCH_RESULTS).svg $(BENCH)
bench-docs: bench-tools
	mkdir -p $(dir $(BENCH_RESULTS))
	$(BIN)/python bench --json $(BENCH_RESULTS).json --plot docs/benchmarks.svg --markdown docs/benchmarks.md $(BENCH)
	tools/debian-packages $(DEMO_PACKAGES) iproute2 iperf3
	$(BIN)/python bench/tap.py --markdown docs/benchmarks.md
	$(BIN)/python bench/anatomy.py --markdown docs/explanation/time-of-a-request.md
instructions: bench-tools
	$(BIN)/python bench/instructions.py --check

# Every byte that a disk is given, in ten million requests for each ring, shared among all ways of serving, while
# its file is interfered with; the service killed, and its power cut, where there are root's rights (4: there are
# not). INTEGRITY="--requests 100000" is another run.
INTEGRITY ?= --all-modes
INTEGRITY_KILLS ?= 50
integrity: build
	tools/debian-packages e2fsprogs mount
	$(BIN)/python -m virtio.testing.integrity $(INTEGRITY)
	$(BIN)/python -m virtio.testing.integrity --kill $(INTEGRITY_KILLS)
	$(BIN)/python -m virtio.testing.integrity --cut-power $(INTEGRITY_KILLS) || test $$? = 4

# Compiled modules of their own again: by clang, with AddressSanitizer and the counters libFuzzer steers by.
FUZZ_SECONDS ?= 60
FUZZED := build/fuzz
fuzz: build
	$(PIP) install --group fuzz
	CC=$(CURDIR)/fuzz/cc FUZZ_PYTHON=$(CURDIR)/$(BIN)/python \
		$(PIP) install --no-build-isolation --no-deps --upgrade --target $(FUZZED)/site \
		-C build-dir=$(FUZZED)/cmake -C cmake.build-type=None -C cmake.define.VIRTIO_IO_URING=OFF \
		-C cmake.define.CMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY .
	$(BIN)/python fuzz --seconds $(FUZZ_SECONDS)

docs: build
	$(PIP) install --group docs
	$(BIN)/sphinx-build -n -W -b html docs docs/_build/html

clean:
	rm -rf build $(VENV) docs/_build
