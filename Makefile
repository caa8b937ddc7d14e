.DEFAULT_GOAL := help
.PHONY: help setup run build test lint fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## bring what this machine lacks (PostgreSQL with pgvector)
	@scripts/setup

run: setup build ## run the private database, migrated, until ^C
	@bin/konstruct dev db

build: ## build bin/konstruct
	go build -o bin/konstruct ./cmd/konstruct

test: setup ## run every test, on a private PostgreSQL
	go test -timeout 15m ./...

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...

fmt: ## format the code
	gofmt -w .

clean: ## remove what was built, and the private database
	rm -rf bin .data
