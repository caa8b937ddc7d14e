package main

import (
	"fmt"
	"log/slog"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/gateway"
)

// gateway is what passes calls of language models on; nil where no file names upstreams.
func (a *app) gateway(k *konstruct.Konstruct, logger *slog.Logger) (*gateway.Gateway, error) {
	if a.GatewayFile == "" {
		return nil, nil
	}
	raw, err := readSmallFile(a.GatewayFile, gateway.MaxConfig)
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_GATEWAY_FILE: %w", err), exitUsage}
	}
	c, err := gateway.ParseConfig(raw)
	if err != nil {
		return nil, coded{fmt.Errorf("%s: %w", a.GatewayFile, err), exitUsage}
	}
	g, err := gateway.New(c, k.Trail(), logger)
	if err != nil {
		return nil, coded{fmt.Errorf("%s: %w", a.GatewayFile, err), exitUsage}
	}
	return g, nil
}
