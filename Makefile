.DEFAULT_GOAL := help
.PHONY: help setup run demo build test test-faults bench fuzz lint fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## bring what this machine lacks: PostgreSQL with pgvector, the embedding model, ONNX Runtime
	@scripts/setup

run: demo ## see it work on the private database, then serve it at http://127.0.0.1:7117 until Ctrl-C
	@bin/konstruct serve --key-for 60600000-0000-4000-8000-000000000001

demo: setup build ## see it work on the private database
	@bin/konstruct demo

build: ## build bin/konstruct, and bin/konstruct-hook, which coding agents start
	go build -o bin/konstruct ./cmd/konstruct
	CGO_ENABLED=0 go build -o bin/konstruct-hook ./cmd/konstruct-hook

test: ## run every test, on a private PostgreSQL
	@scripts/setup test
	go test -timeout 15m ./...

test-faults: ## kill the program, PostgreSQL, the notary and the service under load, and more; some minutes
	@scripts/setup test
	go test ./audit -v -timeout 30m -run 'Survive|BadNetwork|FullDisk|SlowDisk|SteppedClock' -args -kills 50
	go test ./notary -v -timeout 30m -run 'Killed|TheEpochSurvives' -args -kills 50
	go test ./server -v -timeout 30m -run Acknowledged -args -kills 20

bench: setup build ## measure against baselines in the same run
	@bin/konstruct bench all
	go test -run '^$$' -bench . -benchmem ./...

fuzz: setup ## fuzz everything that reads a stranger's bytes, a minute each
	go test -run '^$$' -fuzz FuzzLeaf -fuzztime 1m -fuzzminimizetime 1x ./ledger
	go test -run '^$$' -fuzz FuzzRecordBytes -fuzztime 1m -fuzzminimizetime 1x ./ledger
	go test -run '^$$' -fuzz FuzzNotes -fuzztime 1m -fuzzminimizetime 1x ./ledger
	go test -run '^$$' -fuzz FuzzTilePath -fuzztime 1m -fuzzminimizetime 1x ./ledger
	go test -run '^$$' -fuzz FuzzTimestamp -fuzztime 1m -fuzzminimizetime 1x ./ledger
	go test -run '^$$' -fuzz FuzzBundle -fuzztime 1m -fuzzminimizetime 1x ./evidence
	go test -run '^$$' -fuzz FuzzZip -fuzztime 1m -fuzzminimizetime 1x ./evidence
	go test -run '^$$' -fuzz FuzzActs -fuzztime 1m -fuzzminimizetime 1x ./evidence
	go test -run '^$$' -fuzz FuzzCell -fuzztime 1m -fuzzminimizetime 1x ./export
	go test -run '^$$' -fuzz FuzzHTML -fuzztime 1m -fuzzminimizetime 1x ./extract
	go test -run '^$$' -fuzz FuzzMarkdown -fuzztime 1m -fuzzminimizetime 1x ./extract
	go test -run '^$$' -fuzz FuzzPDF -fuzztime 1m -fuzzminimizetime 1x ./extract
	go test -run '^$$' -fuzz FuzzFormats -fuzztime 1m -fuzzminimizetime 1x ./extract
	go test -run '^$$' -fuzz FuzzSplit -fuzztime 1m -fuzzminimizetime 1x ./chunk
	go test -run '^$$' -fuzz FuzzWindows -fuzztime 1m -fuzzminimizetime 1x ./chunk
	go test -run '^$$' -fuzz FuzzWords -fuzztime 1m -fuzzminimizetime 1x ./search
	go test -run '^$$' -fuzz FuzzCondition -fuzztime 1m -fuzzminimizetime 1x ./search
	go test -run '^$$' -fuzz FuzzFilter -fuzztime 1m -fuzzminimizetime 1x ./search
	go test -run '^$$' -fuzz FuzzCursor -fuzztime 1m -fuzzminimizetime 1x ./search
	go test -run '^$$' -fuzz FuzzKey -fuzztime 1m -fuzzminimizetime 1x ./access
	go test -run '^$$' -fuzz FuzzLabels -fuzztime 1m -fuzzminimizetime 1x ./tenantdb
	go test -run '^$$' -fuzz FuzzStream -fuzztime 1m -fuzzminimizetime 1x ./gateway
	go test -run '^$$' -fuzz FuzzRequest -fuzztime 1m -fuzzminimizetime 1x ./gateway
	go test -run '^$$' -fuzz FuzzCitations -fuzztime 1m -fuzzminimizetime 1x ./gateway
	go test -run '^$$' -fuzz FuzzStrict -fuzztime 1m -fuzzminimizetime 1x ./server
	go test -run '^$$' -fuzz FuzzWire -fuzztime 1m -fuzzminimizetime 1x ./server/httpwire
	go test -run '^$$' -fuzz FuzzMeta -fuzztime 1m -fuzzminimizetime 1x ./server
	go test -run '^$$' -fuzz FuzzForm -fuzztime 1m -fuzzminimizetime 1x ./server
	go test -run '^$$' -fuzz FuzzOpenAIForm -fuzztime 1m -fuzzminimizetime 1x ./server
	go test -run '^$$' -fuzz FuzzQuestions -fuzztime 1m -fuzzminimizetime 1x ./server
	go test -run '^$$' -fuzz FuzzMCP -fuzztime 1m -fuzzminimizetime 1x ./server
	go test -run '^$$' -fuzz FuzzHook -fuzztime 1m -fuzzminimizetime 1x ./hook
	go test -run '^$$' -fuzz FuzzDecide -fuzztime 1m -fuzzminimizetime 1x ./toolrule
	go test -run '^$$' -fuzz FuzzSpans -fuzztime 1m -fuzzminimizetime 1x ./otel
	go test -run '^$$' -fuzz FuzzLogs -fuzztime 1m -fuzzminimizetime 1x ./otel
	go test -run '^$$' -fuzz FuzzOTLPJSON -fuzztime 1m -fuzzminimizetime 1x ./otel
	go test -run '^$$' -fuzz FuzzRecovery -fuzztime 1m -fuzzminimizetime 1x ./spool
	go test -run '^$$' -fuzz FuzzRecord -fuzztime 1m -fuzzminimizetime 1x ./audit
	go test -run '^$$' -fuzz FuzzFrames -fuzztime 1m -fuzzminimizetime 1x ./mcpproxy
	go test -run '^$$' -fuzz FuzzEvents -fuzztime 1m -fuzzminimizetime 1x ./mcpproxy
	go test -run '^$$' -fuzz FuzzPolicy -fuzztime 1m -fuzzminimizetime 1x ./audit
	go test -run '^$$' -fuzz FuzzRedact -fuzztime 1m -fuzzminimizetime 1x ./audit

lint: ## gofmt, go vet, staticcheck, lines to column 120, import rules, and the words, sentences and links of the docs
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test -run "TestImportRules|TestLinesEnd|TestProse|TestSentences|TestLinks" .

fmt: ## format the code
	gofmt -w .

clean: ## remove what was built, and the private database
	rm -rf bin .data
