package mcpproxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/internal/mcptest"
	"github.com/konstruct/konstruct/mcpproxy"
)

// TestFramesPassByteForByte sends frames of every kind to a server that sends back every byte.
func TestFramesPassByteForByte(t *testing.T) {
	for name, frame := range map[string]string{
		"unknown fields":   `{"jsonrpc":"2.0","id":1,"method":"ping","x-new":{"a":[1,2]},"params":{"b":null}}` + "\n",
		"spaces":           " { \"jsonrpc\" : \"2.0\", \"method\":\"notifications\\/x\",\t\"params\":{}} \n",
		"escapes":          `{"jsonrpc":"2.0","method":"notifications\/x","params":{"a":"\u00e9\ud83d\ude00"}}` + "\n",
		"big numbers":      `{"jsonrpc":"2.0","id":9007199254740993,"method":"a","params":{"n":1e400,"m":0.10}}` + "\n",
		"CRLF":             `{"jsonrpc":"2.0","method":"a"}` + "\r\n",
		"an empty line":    "\n",
		"white space":      " \t\r\n",
		"a response":       `{"jsonrpc":"2.0","id":"x","result":{"deep":[[[[]]]]}}` + "\n",
		"an error":         `{"jsonrpc":"2.0","id":4,"error":{"code":-1,"message":"no"}}` + "\n",
		"an unknown id":    `{"jsonrpc":"2.0","id":{"a":1},"result":1}` + "\n",
		"a null id":        `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}` + "\n",
		"a batch":          `[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":2,"method":"ping"}]` + "\n",
		"a strange method": `{"jsonrpc":"2.0","id":2,"method":7}` + "\n",
		"no newline":       `{"jsonrpc":"2.0","method":"last"}`,
		"a megabyte":       `{"jsonrpc":"2.0","method":"a","params":{"x":"` + strings.Repeat("ä", 500_000) + "\"}}\n",
		"a call": `{"params":{"arguments":{"b":1,"a":1.0,"b2":[]},"name":"t","_meta":{"z":1}},"id":1.0,` +
			`"jsonrpc":"2.0","method":"tools/call"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, "mirror")
			go func() {
				p.send(t, frame)
				p.in.Close()
			}()
			var got bytes.Buffer
			if _, err := got.ReadFrom(p.out); err != nil || got.String() != frame {
				t.Errorf("%.200q came back as %.200q, %v", frame, got.String(), err)
			}
		})
	}
}

// TestWhatServersWritePassesByteForByte: what is no frame is the client's to judge.
func TestWhatServersWritePassesByteForByte(t *testing.T) {
	for _, written := range []string{"a log line\n", "\xff\xfe\n", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":NaN}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"result\":{}}\n", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":",
		strings.Repeat("[", 20_000) + "\n", "[]\n", "{}\n", "7\n", "[7]\n", `[{"id":1}]` + "\n"} {
		file := t.TempDir() + "/written"
		if err := os.WriteFile(file, []byte(written), 0o600); err != nil {
			t.Fatal(err)
		}
		p := startProxy(t, "cat", func(c *mcpproxy.Stdio) { c.Env = append(c.Env, "MCPPROXY_TEST_FILE="+file) })
		p.in.Close()
		var got bytes.Buffer
		if _, err := got.ReadFrom(p.out); err != nil || got.String() != written {
			t.Errorf("%.80q came back as %.80q, %v", written, got.String(), err)
		}
	}
}

// TestWhatAServerCouldReadOtherwiseIsRefused: no frame escapes the rules by how it is written.
func TestWhatAServerCouldReadOtherwiseIsRefused(t *testing.T) {
	const ask = `{"jsonrpc":"2.0","id":1,"method":"tools/call",`
	for frame, want := range map[string]string{
		"no JSON": `0","error":{"code":-32700`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"`:                               `0","error":{"code":-32700`,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":"` + "\xff" + `"}}`: `0","error":{"code":-32700`,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":NaN}}`:              `0","error":{"code":-32700`,
		`"text"`:                                 `0","error":{"code":-32600`,
		`[]`:                                     `0","error":{"code":-32600`,
		`[1]`:                                    `0","error":{"code":-32600`,
		`[` + strings.Repeat(`{},`, 100) + `{}]`: `0","error":{"code":-32600`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"t"}}`: `"id":1,` +
			`"error":{"code":-32600,"message":"the message: \"method\" occurs twice"`,
		`{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"t"}}`:       `"id":1,"error":{"code":-32600`,
		ask + `"param\u017f":{"name":"t"}}`:                                          `"id":1,"error":{"code":-32600`,
		ask + `"params":{"name":"a","name":"b"}}`:                                    `"id":1,"error":{"code":-32600`,
		ask + `"params":{"name":"a","Arguments":{}}}`:                                `"id":1,"error":{"code":-32600`,
		`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}`:              `"error":{"code":-32600`,
		`{"jsonrpc":"2.0","id":true,"method":"tools/call","params":{"name":"a"}}`:    `"error":{"code":-32600`,
		ask + `"params":["a"]}`:                                                      `"id":1,"error":{"code":-32602`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`:                             `"id":1,"error":{"code":-32602`,
		ask + `"params":{"name":7}}`:                                                 `"id":1,"error":{"code":-32602`,
		ask + `"params":{"name":"a\u0000b"}}`:                                        `"id":1,"error":{"code":-32602`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":""}}`:     `"id":1,"error":{"code":-32602`,
		`{"jsonrpc":"2.0","id":"` + strings.Repeat("i", 2000) + `","method":"ping"}`: `0","error":{"code":-32600`,
		ask + `"params":{"name":"` + strings.Repeat("n", 2000) + `"}}`:               `"code":-32602`,
	} {
		p := startProxy(t, "mirror")
		p.send(t, frame+"\n")
		line, err := p.lines().ReadString('\n')
		if err != nil || !strings.Contains(line, want) || !json.Valid([]byte(line)) {
			t.Errorf("%.120s: %s %v", frame, line, err)
		}
		p.in.Close()
		if p.exit(t); len(p.trail.recorded()) != 0 {
			t.Errorf("%.80s: it is recorded", frame)
		}
	}
}

func TestCallsWithOneIDAreAllRecorded(t *testing.T) {
	p := startProxy(t, "mirror")
	lines := p.lines()
	ask := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s"}}` + "\n"
	p.send(t, fmt.Sprintf(ask, "a"), fmt.Sprintf(ask, "b"), `{"jsonrpc":"2.0","id":1.0,"result":{"of":"a"}}`+"\n",
		`{"jsonrpc":"2.0","id":1,"result":{"of":"b"}}`+"\n", `{"jsonrpc":"2.0","id":1,"result":{"of":"nobody"}}`+"\n")
	for range 5 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	all := p.trail.recorded()
	if len(all) != 2 {
		t.Fatalf("%d events", len(all))
	}
	for _, e := range all {
		m := metadata(t, e)
		if name := m["gen_ai.tool.name"].(string); !strings.Contains(e.Output, `"of":"`+name+`"`) ||
			(m["jsonrpc.request.id.reused"] == true) != (name == "b") {
			t.Errorf("%s %s", e.Output, e.Metadata)
		}
	}
}

func TestCallsInProgressAreBounded(t *testing.T) {
	signals := make(chan os.Signal, 1)
	p := startProxy(t, "deaf", func(c *mcpproxy.Stdio) { c.Signals = signals })
	go func() {
		for i := range 1001 {
			fmt.Fprintf(p.in, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"t"}}`+"\n", i)
		}
	}()
	line, err := p.lines().ReadString('\n')
	if err != nil || !strings.Contains(line, `"id":1000,"error"`) || !strings.Contains(line, "wait for responses") {
		t.Errorf("%s %v", line, err)
	}
	p.out.Close() // the client is gone
	signals <- syscall.SIGTERM
	p.exit(t)
	if all := p.trail.recorded(); len(all) != 1000 {
		t.Errorf("%d events", len(all))
	}
}

// TestFramesOfFiftyMegabytesPass in both directions, and longer ones as the protocol has it.
func TestFramesOfFiftyMegabytesPass(t *testing.T) {
	const size = 50 << 20
	p := startProxy(t, "mirror")
	lines := p.lines()
	frame := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"x":"` +
		strings.Repeat("y", size) + `"}}}` + "\n"
	go p.send(t, frame)
	if line, err := lines.ReadString('\n'); err != nil || line != frame {
		t.Fatalf("%d bytes came back as %d, %v", len(frame), len(line), err)
	}
	frame = `{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"` + strings.Repeat(
		"z",
		size,
	) + `"}]},"id":1}` + "\n"
	go p.send(t, frame)
	if line, err := lines.ReadString('\n'); err != nil || line != frame {
		t.Fatalf("%d bytes came back as %d, %v", len(frame), len(line), err)
	}
	if all := p.trail.recorded(); len(all) != 1 || len(all[0].Input) < size || len(all[0].Output) < size {
		t.Errorf("%d events", len(all))
	}
	p.send(t, `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t","arguments":{"x":"`+
		strings.Repeat("y", mcpproxy.MaxFrame)+`"}},"id":"late"}`+"\n")
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line,
		`{"jsonrpc":"2.0","id":"late","error":{"code":-32600`) {
		t.Errorf("%.200s %v", line, err)
	}
}

func TestALongResultPassesAndIsRecordedInPart(t *testing.T) {
	const size = mcpproxy.MaxFrame + 10<<20
	p := startProxy(t, "server")
	lines := p.lines()
	p.send(
		t,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},`+
			`"clientInfo":{"name":"raw","version":"1"}}}`+"\n",
	)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p.send(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n", fmt.Sprintf(
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"big","arguments":{"count":%d}}}`+"\n", size))
	total := 0
	for {
		part, err := lines.ReadSlice('\n')
		if total += len(part); err == nil {
			break
		}
	}
	all := p.trail.recorded()
	if total < size || len(all) != 1 || !strings.Contains(all[0].Output, "… [cut: a frame of") ||
		!strings.Contains(all[0].Output, `"text":"xxx`) || metadata(t, all[0])["jsonrpc.request.id"] != "2" {
		t.Errorf("%d bytes, %d events", total, len(all))
	}
}

func TestAServerThatDiesLeavesNoCallUnrecorded(t *testing.T) {
	p := startProxy(t, "server")
	s := p.connect(t, "", nil)
	go s.CallTool(t.Context(), &mcp.CallToolParams{Name: "wait", Arguments: map[string]any{"count": 60_000}})
	time.Sleep(300 * time.Millisecond)
	if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "crash"}); err == nil {
		t.Error("a server that died has answered")
	}
	if code := p.exit(t); code != mcptest.ExitCode {
		t.Errorf("exit code %d", code)
	}
	all := p.trail.recorded()
	if len(all) != 2 || metadata(t, all[0])["error.type"] != "server_exited" ||
		metadata(t, all[1])["error.type"] != "server_exited" {
		t.Errorf("%d events", len(all))
	}
}

func TestAKilledServerIsReportedAsAShellDoes(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		signals := make(chan os.Signal, 1)
		p := startProxy(t, "deaf", func(c *mcpproxy.Stdio) { c.Signals = signals })
		p.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`+"\n")
		time.Sleep(200 * time.Millisecond)
		signals <- signal
		if code := p.exit(t); code != 128+int(signal) {
			t.Errorf("%s: exit code %d", signal, code)
		}
		if all := p.trail.recorded(); len(all) != 1 || metadata(t, all[0])["error.type"] != "server_exited" {
			t.Errorf("%s: %d events", signal, len(all))
		}
	}
}

func TestACancelledCallIsRecordedWithOrWithoutItsResult(t *testing.T) {
	p := startProxy(t, "mirror")
	lines := p.lines()
	p.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`+"\n",
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`+"\n",
		`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`+"\n",
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"u"}}`+"\n",
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`+"\n")
	for range 5 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	all := p.trail.wait(t, 2)
	if m := metadata(t, all[0]); m["error.type"] != "cancelled" || all[0].Output != `{"content":[]}` {
		t.Errorf("%s %v", all[0].Output, m)
	}
	if m := metadata(t, all[1]); m["error.type"] != "cancelled" || all[1].Output != "" {
		t.Errorf("%s %v", all[1].Output, m)
	}
}

// TestAKilledProxyLosesNothingThatItsClientHas: every result that came through is on the trail.
func TestAKilledProxyLosesNothingThatItsClientHas(t *testing.T) {
	cmd, trailFile := proxyCommand(t, "server")
	session := connectCommand(t, cmd)
	done := make(chan int)
	go func() {
		n := 0
		for {
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo"}); err != nil {
				done <- n
				return
			}
			n++
		}
	}()
	time.Sleep(500 * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n := <-done
	if all := readTrail(t, trailFile); n == 0 || len(all) < n {
		t.Errorf("%d results, %d events", n, len(all))
	}
}

// connectCommand starts a proxy in a process of its own and connects to it.
func connectCommand(t *testing.T, cmd *exec.Cmd) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "9"}, nil)
	session, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}
