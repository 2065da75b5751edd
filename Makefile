# Two commands are enough: `make run` and `make test`. Both install what a bare Debian lacks.
SHELL := /bin/bash
CARGO ?= cargo
# What must not be skipped; .ci/run sets it.
export ELAPSE_REQUIRE ?=
# What --version and run.json tell of where a program comes from.
export ELAPSE_COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null)

PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: attempts test-security test-vm test-systemd fuzz install uninstall run test build bench bench-live bench-agreement soak lint clean needs needs-build needs-tests

# What simulating needs and nothing else.
run: needs
	$(CARGO) build --release --locked -p elapse-cli
	@rm -rf results/quickstart
	target/release/elapse sim scenarios/quickstart.toml --out results/quickstart
	@echo "The plots are in results/quickstart/plots; the page is results/quickstart/report.html"

# The agent goes into containers of any image, so it is static; the program has it inside, and it lies beside it for tests.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# All that there is; containerd's client needs protoc to be built.
FEATURES = --features containerd,whole
build: needs-build
	RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" $(CARGO) build --release --locked -p elapse-agent --target $(HOST) --target-dir target/agent
	ELAPSE_AGENT=$(CURDIR)/target/agent/$(HOST)/release/elapse-agent $(CARGO) build --release --locked -p elapse-cli $(FEATURES)
	@install -m 755 target/agent/$(HOST)/release/elapse-agent target/release/elapse-agent

# A linker and a C compiler, for the allocator.
needs:
	@command -v cargo >/dev/null || { echo "elapse needs a Rust toolchain; see https://rustup.rs"; exit 3; }
	@command -v cc >/dev/null || tests/install.sh gcc libc6-dev

needs-build: needs
	@command -v protoc >/dev/null || tests/install.sh protobuf-compiler

needs-tests: needs-build
	@command -v valgrind >/dev/null || tests/install.sh valgrind
	@python3 -c 'import ensurepip, venv' 2>/dev/null || tests/install.sh python3 python3-venv
	@command -v containerd >/dev/null && command -v runc >/dev/null || tests/install.sh containerd runc
	@command -v dockerd >/dev/null || tests/install.sh docker.io
	@command -v crun >/dev/null || tests/install.sh crun
	@command -v docker-registry >/dev/null || tests/install.sh docker-registry
	@command -v ip >/dev/null || tests/install.sh iproute2

# What hostile code tries in sandboxes, static like the agent.
attempts:
	RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" $(CARGO) build --release --locked -p elapse-attempts --target $(HOST) --target-dir target/agent
	@install -m 755 target/agent/$(HOST)/release/elapse-attempts target/release/elapse-attempts

# Everything that can be tested here, ending with one line: N passed, N failed, N skipped.
test: needs-tests
	@tests/run.sh

# Attempts of hostile code in a sandbox of every backend, as root; a part of `make test`.
test-security: needs-tests build attempts
	@daemons=$$(mktemp -d /tmp/elapse-tests.XXXXXX) && trap 'tests/daemons.sh down "$$daemons"' EXIT && \
	eval "$$(tests/daemons.sh up "$$daemons")" && \
	$(CARGO) test --workspace $(FEATURES) --locked --test elapse --test program -- --nocapture security:: doors::

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) --locked -- -D warnings
	$(CARGO) clippy --locked -p elapse-cli -- -D warnings

# The units under a real systemd; opt-in, because the first time it makes a Debian tree (minutes).
test-systemd: build
	@tests/systemd.sh

# The tests of real containers in a virtual machine with cgroup v2; opt-in, because it emulates a processor (an hour).
test-vm: needs-tests build attempts
	@tests/vm.sh

# The API of both daemons under requests that are made up from its description; opt-in, because it needs PyPI.
fuzz: needs-tests build
	@tests/fuzz.sh

# The long repetitions: ten seeds of a million invocations, ten million timeouts, 200 interrupted live runs.
soak: needs-tests
	@ELAPSE_SOAK=1 tests/run.sh

# Numbers, with the command and the machine; nothing asserts them.
bench: needs-tests build
	@tests/bench/run.sh

# Live numbers of this host; minutes of real time, and nothing else should run.
bench-live: needs-tests build
	@tests/bench/live.sh target/bench-live
	@daemons=$$(mktemp -d /tmp/elapse-bench.XXXXXX) && trap 'tests/daemons.sh down "$$daemons"' EXIT && \
	eval "$$(tests/daemons.sh up "$$daemons")" && tests/bench/daemons.sh target/bench-daemons

# Simulated against live, five minutes a run and three repeats of each at three loads: an hour a backend. LENGTH (seconds), REPEATS
# and BACKENDS make it another.
bench-agreement: needs-tests build
	@daemons=$$(mktemp -d /tmp/elapse-bench.XXXXXX) && trap 'tests/daemons.sh down "$$daemons"' EXIT && \
	eval "$$(tests/daemons.sh up "$$daemons")" && \
	tests/bench/agreement.sh target/agreement $(or $(LENGTH),300) $(or $(REPEATS),3) "$(or $(BACKENDS),process containerd)"

# The program, its agent beside it, and the units; a configuration is an example until it is copied to NAME.toml.
install: build
	install -D -m 755 target/release/elapse $(DESTDIR)$(PREFIX)/bin/elapse
	install -D -m 755 target/release/elapse-agent $(DESTDIR)$(PREFIX)/bin/elapse-agent
	install -d $(DESTDIR)/etc/systemd/system $(DESTDIR)/etc/elapse
	install -m 644 real/systemd/elapse.slice $(DESTDIR)/etc/systemd/system/elapse.slice
	install -D -m 644 real/systemd/elapse.conf $(DESTDIR)/usr/lib/sysusers.d/elapse.conf
	for unit in worker controller; do \
		sed 's|/usr/local/bin/|$(PREFIX)/bin/|' real/systemd/elapse-$$unit@.service >$(DESTDIR)/etc/systemd/system/elapse-$$unit@.service; \
		install -m 644 real/systemd/$$unit.toml $(DESTDIR)/etc/elapse/$$unit.toml.example; \
	done

# What install put there; configurations stay.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/elapse $(DESTDIR)$(PREFIX)/bin/elapse-agent
	rm -f $(DESTDIR)/usr/lib/sysusers.d/elapse.conf
	rm -f $(DESTDIR)/etc/systemd/system/elapse-{worker,controller}@.service $(DESTDIR)/etc/systemd/system/elapse.slice \
		$(DESTDIR)/etc/elapse/{worker,controller}.toml.example

clean:
	$(CARGO) clean
