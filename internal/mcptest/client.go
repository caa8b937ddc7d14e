package mcptest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ClientMain is a client for scripts: mcp-client TOOL=JSON… -- COMMAND… calls each tool of the server that the command
// is, and prints the text of each result. Its exit code is 1 if a call has failed.
func ClientMain() {
	end := slices.Index(os.Args, "--")
	if end < 0 || end == len(os.Args)-1 {
		fmt.Fprintln(os.Stderr, "usage: mcp-client TOOL=JSON… -- COMMAND…")
		os.Exit(2)
	}
	if err := callAll(context.Background(), os.Args[1:end], os.Args[end+1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mcp-client:", err)
		os.Exit(1)
	}
}

func callAll(ctx context.Context, calls, command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "mcp-client", Version: "1"}, nil)
	s, err := client.Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		return err
	}
	failed := 0
	for _, call := range calls {
		tool, arguments, _ := strings.Cut(call, "=")
		r, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
		if err != nil {
			return err
		}
		if r.IsError {
			failed++
		}
		fmt.Println(r.Content[0].(*mcp.TextContent).Text)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d calls failed", failed)
	}
	return nil
}
