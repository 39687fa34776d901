# Two commands for a fresh Debian 12 machine with the Swift toolchain:
#   make serve   builds, fetches and prepares the default model, serves it on localhost:8000
#   make test    builds and runs every test
# The rest is for work on the project.

PACKAGES := libpcre2-dev libevent-dev libssl-dev libucx-dev libjpeg62-turbo-dev libpng-dev \
  libwebp-dev libgif-dev libcurl4-openssl-dev pkg-config python3 python3-venv python3-pip unzip
LIBRARIES := libpcre2-8 libevent_openssl libcrypto ucx libjpeg libpng libwebp libwebpdemux libcurl
MODEL := .cache/models/smollm2-135m-step3
VISION_MODEL := $(MODEL)-vision
STEP3 := .build/release/step3
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help deps build model vision-model serve chat test test-data test-clients test-soak
.PHONY: test-sanitized lint format bench clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4
	@echo "Targets:" $$(sed -n 's/^\.PHONY: //p' Makefile)

# Installs what is missing, and asks nothing when nothing is.
deps:
	@if pkg-config --exists $(LIBRARIES) 2>/dev/null && command -v unzip >/dev/null \
	  && [ -e /usr/include/gif_lib.h ] \
	  && python3 -c 'import ensurepip, venv' 2>/dev/null; then :; else \
	  echo "installing: $(PACKAGES)"; \
	  $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq $(PACKAGES) >/dev/null; fi

build: deps
	swift build -c release --product step3

# Fetches the public input of the default model and converts it; a no-op when it is there.
model: build
	Tools/fetch_default_model.sh $(MODEL)

# The same text weights with a small vision tower, which tells digits, shapes, colours and counts.
vision-model: build
	Tools/fetch_default_model.sh --variant vision $(VISION_MODEL)

serve: vision-model
	$(STEP3) serve --model $(VISION_MODEL) --port 8000

chat: vision-model
	$(STEP3) chat --model $(VISION_MODEL)

test-data: deps
	Tools/fetch_test_data.sh

# One test at a time: servers and processes that are timed by others starve on two cores.
test: test-data
	swift build -c release
	$(MAKE) --no-print-directory model
	swift test -c release --no-parallel
	Tools/clients/run.sh

# Real clients (PyPI packages) against real servers: those of `make test`, then agents' packages.
test-clients: model
	Tools/clients/run.sh
	Tools/clients/run.sh agents

# Ten thousand mixed requests, a tenth of them left half-way.
test-soak: build
	swift build -c release --build-tests
	STEP3_SOAK_REQUESTS=10000 STEP3_SIMULATION_SEEDS=3000 swift test -c release --skip-build \
	  --filter 'ServerSoakTests|ScheduledSimulationTests'

# The server's end-to-end tests against a binary with a sanitizer: SANITIZER=address or thread.
# What a waiting stream costs is bounded without a sanitizer's own memory.
SANITIZER := address
SANITIZED := .build/sanitize-$(SANITIZER)
test-sanitized: deps
	mkdir -p $(SANITIZED)
	clang -O1 -fPIC -c Tools/sanitizers/swift_locks.c -o $(SANITIZED)/swift_locks.o
	swift build --sanitize=$(SANITIZER) --scratch-path $(SANITIZED) --product step3 -Xcc -O2 \
	  $(if $(filter thread,$(SANITIZER)),-Xlinker $(CURDIR)/$(SANITIZED)/swift_locks.o)
	swift build --build-tests -Xcc -O2
	STEP3_TEST_BINARY=$(SANITIZED)/debug/step3 \
	  ASAN_OPTIONS=abort_on_error=1 TSAN_OPTIONS="halt_on_error=1 abort_on_error=1" \
	  swift test --skip-build --no-parallel --filter 'EndToEndTests.Server' --skip idleStreams

lint:
	Tools/lint

format:
	swift format -i -r Sources Tests Package.swift

bench: model
	$(STEP3) bench limits
	$(STEP3) bench kernels
	$(STEP3) bench decode --model $(MODEL)
	$(STEP3) bench prefill --model $(MODEL)

clean:
	rm -rf .build
