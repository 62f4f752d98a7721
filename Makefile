# Targets for people: make, demo, test, check, fuzz, bench, agent, cache, parts, release, clean.
# All that is made lies in .build, .demo and node_modules folders.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS := -X main.version=$(VERSION)
BIN := .build/bin
FUZZTIME ?= 20s
# Races are looked for in all code; what unsafe pointers point to, not in SQLite, which
# is translated from C and would take a quarter of the time of many tests.
UNIT := go test -race -gcflags='modernc.org/...=-d=checkptr=0' -shuffle=on -timeout 20m ./...
PLATFORMS ?= linux/amd64 linux/arm64 darwin/arm64

# clients that are not ours, for the integration tests
NPM := $(patsubst %,itest/%/node_modules/.package-lock.json,browser foreign gaia)

# what the tests run, as "command=package" or "package" of Debian
TEST_NEEDS := ffmpeg=ffmpeg chromium=chromium mpv=mpv gst-launch-1.0=gstreamer1.0-tools \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav \
	xmllint=libxml2-utils nginx=nginx-light python3-libtorrent

.PHONY: build web node versitygw demo film test unit itest check fuzz bench agent cache parts release clean

build: web ## the program, with the pages' assets in it
	@echo "== building $(BIN)/htlcdash"
	@go build -ldflags '$(LDFLAGS)' -o $(BIN)/htlcdash ./cmd/htlcdash

web: ## the assets of the pages: dash.js and a chart library
	@$(MAKE) -C internal/web

node: ## btcd and lnd for the demo and the tests
	@echo "== building the Bitcoin and Lightning nodes (minutes the first time)"
	@$(MAKE) -C node

versitygw: $(BIN)/versitygw ## a service of buckets for the tests
$(BIN)/versitygw: itest/versitygw/go.mod itest/versitygw/go.sum
	@echo "== building versitygw (minutes the first time)"
	@cd itest/versitygw && go build -o $(CURDIR)/$@ github.com/versity/versitygw/cmd/versitygw

# npm leaves this file when it is done
film: demo/node_modules/.package-lock.json
%/node_modules/.package-lock.json: %/package-lock.json
	@echo "== npm ci in $*"
	@npm ci --prefix $* --no-audit --no-fund --loglevel=error
	@touch $@

demo: ## the whole on this machine: make demo, or make demo MEDIA=film.mp4
	@.ci/need ffmpeg=ffmpeg
	@$(MAKE) $(if $(MEDIA),,film) node build
	@exec $(BIN)/htlcdash demo $(if $(MEDIA),--media '$(MEDIA)') $(DEMOFLAGS)

test: ## everything: unit tests, then real nodes, players and a browser
	@.ci/need $(TEST_NEEDS)
	@$(MAKE) film node build versitygw
	@$(MAKE) unit
	@$(MAKE) itest

unit: web
	@echo "== unit tests"
	$(UNIT)
	@$(MAKE) -C node test

itest: film node build versitygw $(NPM)
	@echo "== integration tests: real nodes, real players"
	go test -tags itest -count=1 -timeout 40m ./itest/... ./internal/devnet/...

check: web ## what a change must pass before it is sent
	@echo "== gofumpt";       test -z "$$(go tool gofumpt -l . | tee /dev/stderr)"
	@echo "== go vet";        go vet ./... && go vet -tags itest ./... && $(MAKE) -C node vet
	@echo "== staticcheck";   go tool staticcheck -tags itest ./...
	@echo "== go fix";        if go help fix | grep -q -e -diff; then test -z "$$(go fix -diff ./... | tee /dev/stderr)"; fi
	@echo "== go mod tidy";   go mod tidy -diff && cd node && go mod tidy -diff
	@echo "== go test";       $(UNIT)
	@echo "== deadcode";      test -z "$$(go tool deadcode -test -tags itest ./... | tee /dev/stderr)"

fuzz: ## each fuzz target for FUZZTIME
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "== $$p $$f"; \
			go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$p; \
		done; \
	done

bench: film node build versitygw itest/browser/node_modules/.package-lock.json ## what is promised, beside plain baselines: doc/bench.md
	@.ci/need ffmpeg=ffmpeg chromium=chromium nginx=nginx-light wrk=wrk openssl=openssl
	@$(BIN)/htlcdash bench $(BENCHFLAGS)

agent: build ## how near the agent comes to the best possible, into doc/agent: make agent TRACES='folder ...'
	@mkdir -p doc/agent
	@$(BIN)/htlcdash simulate $(TRACES:%=--traces %) --json doc/agent/account.json --plot doc/agent $(SIMULATEFLAGS) | tee doc/agent/account.txt
	@$(BIN)/htlcdash simulate market --plot doc/agent | tee doc/agent/market.txt

cache: build ## what keeping bytes for profit saves, into doc/cache
	@mkdir -p doc/cache
	@$(BIN)/htlcdash simulate cache --sizes 1,2,5,10,20 --json doc/cache/cache.json --plot doc/cache | tee doc/cache/cache.txt

parts: web ## the speed of single parts
	go test -run '^$$' -bench . -benchmem ./...

release: web ## static binaries with checksums, in .build/release
	@rm -rf .build/release && mkdir -p .build/release
	@for p in $(PLATFORMS); do \
		name=htlcdash-$(VERSION)-$${p%/*}-$${p#*/}; echo "== $$name"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} \
			go build -trimpath -ldflags '-s -w $(LDFLAGS)' -o .build/release/$$name ./cmd/htlcdash; \
	done
	@cd .build/release && sha256sum htlcdash-* > SHA256SUMS

clean: ## remove all that was made, the demo's private network included
	rm -rf .build .demo demo/node_modules itest/*/node_modules internal/web/node_modules internal/web/static/lib
