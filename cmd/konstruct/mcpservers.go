package main

import (
	"fmt"
	"path/filepath"

	"github.com/konstruct/konstruct/mcpproxy"
)

// mcpServers are the MCP servers that the service passes clients on to; none where no file lists them.
func (a *app) mcpServers() (map[string]*mcpproxy.Upstream, error) {
	if a.MCPServersFile == "" {
		return nil, nil
	}
	raw, err := readSmallFile(a.MCPServersFile, mcpproxy.MaxServersFile)
	if err != nil {
		return nil, coded{fmt.Errorf("KONSTRUCT_MCP_SERVERS_FILE: %w", err), exitUsage}
	}
	all, err := mcpproxy.ParseServers(raw, filepath.Dir(a.MCPServersFile))
	if err != nil {
		return nil, coded{fmt.Errorf("%s: %w", a.MCPServersFile, err), exitUsage}
	}
	return all, nil
}
