// Package mcptest has a server of the Model Context Protocol, made with the official SDK, for tests of the proxy: it
// answers, fails, waits, dies, asks for input, and says much.
package mcptest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Server name and version, which the server gives of itself.
const (
	Name    = "mcptest"
	Version = "1.2.3"
)

// ExitCode is the exit code of a server whose tool "crash" was called.
const ExitCode = 7

// New returns a server. Its tools are echo, fail, wait, big, crash, confirm, remove and note.
func New() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: Name, Version: Version}, nil)
	addTools(s)
	s.AddResource(&mcp.Resource{Name: "motd", URI: "test://motd", MIMEType: "text/plain"},
		func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, MIMEType: "text/plain",
				Text: "hello"}}}, nil
		})
	s.AddPrompt(&mcp.Prompt{Name: "greet", Arguments: []*mcp.PromptArgument{{Name: "who"}}},
		func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user",
				Content: &mcp.TextContent{Text: "Greet " + r.Params.Arguments["who"]}}}}, nil
		})
	return s
}

// Arguments are those of all tools.
type Arguments struct {
	Text  string `json:"text,omitempty"`
	Count int    `json:"count,omitempty" jsonschema:"milliseconds of wait, bytes of big, notifications of note"`
	File  string `json:"file,omitempty"  jsonschema:"a file that remove appends to, so that a test sees whether it ran"`
}

func addTools(s *mcp.Server) {
	add := func(name string, call func(context.Context, *mcp.CallToolRequest, Arguments) (*mcp.CallToolResult, error)) {
		mcp.AddTool(s, &mcp.Tool{Name: name, Description: name},
			func(ctx context.Context, r *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, any, error) {
				result, err := call(ctx, r, a)
				return result, nil, err
			})
	}
	add("echo", func(_ context.Context, _ *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, error) {
		return say(a.Text), nil
	})
	add("fail", func(context.Context, *mcp.CallToolRequest, Arguments) (*mcp.CallToolResult, error) {
		return nil, errors.New("the tool failed")
	})
	add("wait", func(ctx context.Context, _ *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(a.Count) * time.Millisecond):
			return say("waited"), nil
		}
	})
	add("big", func(_ context.Context, _ *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, error) {
		return say(strings.Repeat("x", a.Count)), nil
	})
	add("crash", func(context.Context, *mcp.CallToolRequest, Arguments) (*mcp.CallToolResult, error) {
		fmt.Fprintln(os.Stderr, "mcptest: crashing")
		os.Exit(ExitCode)
		return nil, nil
	})
	add("confirm", func(_ context.Context, r *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, error) {
		if len(r.Params.InputResponses) == 0 {
			return &mcp.CallToolResult{RequestState: "state of " + a.Text,
				InputRequests: mcp.InputRequestMap{"sure": &mcp.ElicitParams{Message: "Sure?"}}}, nil
		}
		return say("confirmed"), nil
	})
	add("remove", func(_ context.Context, _ *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, error) {
		if a.File != "" {
			f, err := os.OpenFile(a.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return nil, err
			}
			fmt.Fprintln(f, a.Text)
			if err := f.Close(); err != nil {
				return nil, err
			}
		}
		return say("removed " + a.Text), nil
	})
	add("note", func(ctx context.Context, r *mcp.CallToolRequest, a Arguments) (*mcp.CallToolResult, error) {
		for i := range a.Count {
			_ = r.Session.NotifyProgress(
				ctx,
				&mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(),
					Progress: float64(i + 1), Message: "noted"},
			)
		}
		return say("noted"), nil
	})
}

func say(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

// Main serves on the process's standard streams until they close.
func Main() {
	if err := New().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, "mcptest:", err)
		os.Exit(1)
	}
}
