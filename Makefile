# unio: build, try and test. `make test` and `make demo` install what they
# miss on a fresh Debian or Ubuntu machine (scripts/need.sh, scripts/go).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO      := $(CURDIR)/scripts/go
PREFIX  ?= /usr/local
DESTDIR ?=
# Where mount(8) looks for the programs of filesystem types; nowhere else.
MOUNTDIR ?= /sbin
OUT     := $(CURDIR)/bin
FUZZTIME ?= 10s
TESTFLAGS ?=

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  = $(shell git rev-parse HEAD 2>/dev/null)
DATE    = $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# cli's own documentation writers cost every start half a millisecond.
TAGS := urfave_cli_no_docs

# What needs no mount of its own, and the server's tests: under the race detector.
# Those that take longest come first.
RACE := ./unionfs ./imagestore/registry ./imagestore/layer ./whiteout/... ./cow/... ./unionfs/... ./imagestore/... ./build/... ./container/...

.PHONY: all build install demo test test-long test-rootless race lint fuzz bench posix clean need-build need-test need-demo need-bench

all: build

need-build need-test need-demo need-bench: need-%:
	@scripts/need.sh $*

build: need-build ## one static binary, bin/unio
	@mkdir -p $(OUT)
	CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o $(OUT)/unio ./cmd/unio

install: ## below $(DESTDIR)$(PREFIX): program, links, manual, completions
	@test -x $(OUT)/unio || { echo "run make build first"; exit 1; }
	install -D -m 0755 $(OUT)/unio $(DESTDIR)$(PREFIX)/bin/unio
	ln -sfn unio $(DESTDIR)$(PREFIX)/bin/unio-overlay
	@if install -d $(DESTDIR)$(MOUNTDIR) && [ -w $(DESTDIR)$(MOUNTDIR) ]; then \
		ln -sfn $(PREFIX)/bin/unio $(DESTDIR)$(MOUNTDIR)/mount.fuse.unio; \
	else echo "mount -t fuse.unio needs a link $(MOUNTDIR)/mount.fuse.unio to $(PREFIX)/bin/unio"; fi
	$(OUT)/unio man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	$(OUT)/unio completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/unio
	$(OUT)/unio completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_unio
	$(OUT)/unio completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/unio.fish

demo: need-demo build ## the whole journey, with real output
	PATH=$(OUT):$$PATH scripts/demo.sh

# The ordinary pass is over /dev/fuse; tests that go over io_uring say so.
test race: export UNIO_TRANSPORT ?= dev

test: need-test build ## everything, as root with real mounts, registries and clients
	@scripts/keep-uring.sh scripts/test.sh $(TESTFLAGS)

test-long: need-test ## a million random operations, on files and on trees; storms, leaks, a million files, all of stress-ng
	UNIO_TEST_LONG=1 $(GO) test -count=1 -timeout 3h -run '^(TestFsx|TestForeignUppers)|Storm$$' ./unionfs ./cow
	UNIO_TEST_LONG=1 $(GO) test -count=1 -timeout 2h -run '^TestRandom|^Test(WalkMemory|NothingLeaks|StressNG|Fio|PullSurvivesKills|ArchiveMemory|StoreStorm|UringMemory|UringKilledUnderLoad)$$' ./integration
	UNIO_TEST_LONG=1 $(GO) test -count=1 -timeout 1h -run '^TestRandomFaults$$' ./imagestore/registry
	UNIO_TEST_LONG=1 $(GO) test -count=1 -timeout 1h -run '^(TestRandomGenerations|TestMemory)$$' ./unionfs/dirlower
	UNIO_TEST_LONG=1 $(GO) test -count=1 -timeout 1h ./integration/corpus

test-rootless: need-test ## what an ordinary user can do, as the user nobody when started by root
	@scripts/test-rootless.sh

# In short: what does one thing at a time does less of it here than in `make
# test`. The servers of TestCrash are built without the detector anyway.
race: need-test ## the race detector over everything but the end-to-end tests
	CGO_ENABLED=1 scripts/keep-uring.sh $(GO) test -race -short -skip '^TestCrash$$' -vet=off -timeout 15m $(RACE)

lint: need-build ## format, vet, staticcheck, shell syntax
	@scripts/lint.sh

fuzz: need-build ## every fuzz target for FUZZTIME
	@scripts/fuzz.sh $(FUZZTIME)

bench: need-bench build ## beside overlayfs, fuse-overlayfs, unionfs-fuse, docker, podman, umoci …; BENCH=copyup runs one workload, QUICK=1 takes 3 minutes
	UNIO=$(OUT)/unio $(GO) run ./integration/bench $(if $(BENCH),-only '$(BENCH)') $(if $(QUICK),-quick) $(BENCHFLAGS)

posix: need-test build ## how ext4, overlayfs, fuse-overlayfs and unio behave, as a table
	UNIO=$(OUT)/unio $(GO) run ./integration/posix $(POSIXFLAGS)

clean:
	rm -rf $(OUT) out coverage.out
