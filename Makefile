# Bare `make` lists the targets.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)
PEERS    = .peers/bin
export CGO_ENABLED = 0

.DEFAULT_GOAL := help
.PHONY: help build demo demo-tor test bench fuzz lint peers cross

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./warren, one static binary
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o warren ./cmd/warren

demo: build ## the main job on this machine: grid, invite, join, a synced folder
	./warren demo

demo-tor: build ## the same through a private Tor network on loopback
	@GO=$(GO) ./scripts/demo-tor

peers: ## install the real programs that the tests talk to
	./scripts/peers

# -count=1: these build the binary themselves, which go's cache of results cannot see.
# -race needs cgo; the binary does not. What starts whole grids, or waits for
# other people's programs, runs without it and one package after the other.
UNITS   = ./cmd/... ./invite/... ./node/... ./magicfolder/... ./torutil/... ./tests/arch/... ./tests/gridtest/... ./tests/tally/...
STORIES = $(shell $(GO) list ./tests/... | grep -vE '/tests/(arch|gridtest|tally)(/|$$)')
TALLY   = $(GO) run ./tests/tally
test: peers ## install what the tests need and run every test
	CGO_ENABLED=1 $(GO) test -json -race -timeout 10m $(UNITS) | $(TALLY)
	$(GO) test -json -count=1 -run '^TestKilled$$' ./magicfolder | $(TALLY)
	$(GO) test -json -count=1 -timeout 15m -p 1 $(STORIES) | $(TALLY)

bench: peers ## the benchmarks behind every figure that we publish, beside the real Tahoe and magic-folder (two hours)
	$(GO) test -run '^$$' -bench . -benchtime 3x -timeout 5h ./magicfolder/scan ./tests/bench/...

fuzz: ## run every fuzz target for FUZZTIME (60s), FUZZPARALLEL workers each
	./scripts/fuzz

lint: peers ## gofmt, go vet (each system), staticcheck, govulncheck
	@test -z "$$(gofmt -l cmd invite node magicfolder torutil tests)" || { gofmt -l cmd invite node magicfolder torutil tests; echo "run gofmt -w" >&2; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet -trimpath ./...
	GOOS=windows $(GO) vet -trimpath ./...
	$(PEERS)/staticcheck ./...
	@./scripts/vulncheck

cross: ## build for every platform that we ship
	@for os in linux darwin windows; do for arch in amd64 arm64; do \
	  echo "build $$os/$$arch"; GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o /dev/null ./cmd/warren || exit 1; done; done
