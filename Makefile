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

# -race needs cgo; the binary does not. Packages run two at a time: the stories
# under tests start whole grids.
test: peers ## install what the tests need and run every test
	CGO_ENABLED=1 $(GO) test -race -timeout 15m ./cmd/... ./invite/... ./node/... ./magicfolder/... ./torutil/... ./tests/arch/...
	$(GO) test -timeout 20m -p 1 ./tests/...

bench: build peers ## the benchmarks behind every figure we publish
	$(GO) test -run '^$$' -bench . -benchtime 3x ./tests/bench/...

FUZZTIME ?= 60s
fuzz: ## run every fuzz target for FUZZTIME (60s)
	FUZZTIME=$(FUZZTIME) ./scripts/fuzz

lint: peers ## gofmt, go vet, staticcheck, govulncheck
	@test -z "$$(gofmt -l cmd invite node magicfolder torutil tests)" || { gofmt -l cmd invite node magicfolder torutil tests; echo "run gofmt -w" >&2; exit 1; }
	$(GO) vet ./...
	$(PEERS)/staticcheck ./...
	@./scripts/vulncheck

cross: ## build for every platform that we ship
	@for os in linux darwin windows; do for arch in amd64 arm64; do \
	  echo "build $$os/$$arch"; GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o /dev/null ./cmd/warren || exit 1; done; done
