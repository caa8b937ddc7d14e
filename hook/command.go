package hook

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/client"
)

// usage is what --help prints.
const usage = `Usage: konstruct-hook [flags]                     handle one hook: its input is on standard input
       konstruct-hook settings PROGRAM [flags]    print the settings that make PROGRAM run it:
                                                  claude-code, codex or gemini-cli
       konstruct-hook status                      what waits for the service
       konstruct-hook deliver                     send what waits, and end when nothing does
       konstruct-hook rejected                    events that the service refused for good

Exit codes of a hook: 0 done, 1 something could not be recorded and the agent goes on, 2 blocked.

Flags:
`

// options are a command's flags.
type options struct {
	client.Config
	program, keyFile, redactFile, agent, notify string
	timeout                                     time.Duration
	verbose, adopt                              bool
}

// Command is the konstruct-hook program.
type Command struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Self is the command line that starts this program again, without its arguments.
	Self []string
	// Version is the program's, for the service's log.
	Version string
}

// Run runs the program and returns its exit code. As a hook it never returns 2 but to block.
func (c Command) Run(ctx context.Context, args []string) int {
	begin := time.Now()
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.HasPrefix(args[0], "{") {
		name, args = args[0], args[1:]
	}
	argument := ""
	if name == "settings" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		argument, args = args[0], args[1:]
	}
	o, err := c.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(c.Err, "konstruct hook:", err)
		if o.FailClosed {
			return 2
		}
		return 1
	}
	switch name {
	case "":
		return c.hook(ctx, o, begin)
	case "flush":
		err = c.flush(ctx, o)
	case "deliver":
		err = c.deliver(ctx, o)
	case "status":
		err = c.status(o)
	case "rejected":
		err = c.rejected(o)
	case "settings":
		err = c.settings(argument, o)
	default:
		err = fmt.Errorf("%.40q is no command (see --help)", name)
	}
	if err != nil {
		fmt.Fprintln(c.Err, "konstruct hook:", err)
		return 1
	}
	return 0
}

// parse reads flags and environment.
func (c Command) parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("konstruct-hook", flag.ContinueOnError)
	f.SetOutput(c.Err)
	f.Usage = func() {
		fmt.Fprint(c.Err, usage)
		f.PrintDefaults()
	}
	f.StringVar(&o.URL, "url", c.Getenv("KONSTRUCT_URL"), "the service's address; also KONSTRUCT_URL")
	f.StringVar(&o.keyFile, "key-file", c.Getenv("KONSTRUCT_KEY_FILE"),
		"file of a key with events:write; also KONSTRUCT_KEY_FILE, or the key itself in KONSTRUCT_KEY")
	f.StringVar(&o.SpoolDir, "capture-dir", c.Getenv("KONSTRUCT_CAPTURE_DIR"),
		"folder of events that the service does not have yet; also KONSTRUCT_CAPTURE_DIR")
	f.StringVar(&o.RulesFile, "rules", c.Getenv("KONSTRUCT_TOOL_RULES_FILE"),
		"file of further rules on tools, {\"tools\": […]}; also KONSTRUCT_TOOL_RULES_FILE")
	f.StringVar(&o.redactFile, "redact-key-file", c.Getenv("KONSTRUCT_REDACT_KEY_FILE"),
		"the operator's key for redaction, to redact before anything is kept; also KONSTRUCT_REDACT_KEY_FILE")
	f.StringVar(&o.agent, "agent", c.Getenv("KONSTRUCT_AGENT"), "agent_id of the events, a UUID; also KONSTRUCT_AGENT")
	f.StringVar(&o.UserID, "user", c.Getenv("KONSTRUCT_USER"), "user_id of the events; also KONSTRUCT_USER")
	f.BoolVar(&o.FailClosed, "fail-closed", false, "deny what can't be read, decided or recorded")
	f.StringVar(&o.program, "program", "", "claude-code, codex or gemini-cli; else it is recognized")
	f.DurationVar(&o.timeout, "timeout", DefaultTimeout, "after how long the program kills its hooks")
	f.BoolVar(&o.adopt, "adopt", false,
		"with deliver: also what was kept without a service, or under a key with which none was reached")
	f.Int64Var(&o.SpoolLimit, "capture-limit", client.DefaultSpoolLimit, "bytes of events that wait at most")
	f.BoolVar(&o.verbose, "verbose", false, "say more on standard error")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.notify = strings.Join(f.Args(), " "); o.notify != "" && !strings.HasPrefix(o.notify, "{") {
		return o, fmt.Errorf("%.40q is no flag (see --help)", o.notify)
	}
	if o.SpoolDir == "" {
		if o.SpoolDir, err = c.defaultDir(); err != nil {
			return o, err
		}
	}
	if o.agent != "" {
		if o.AgentID, err = uuid.Parse(o.agent); err != nil {
			return o, fmt.Errorf("--agent: %.60q is no UUID", o.agent)
		}
	}
	o.Key = c.Getenv("KONSTRUCT_KEY")
	if o.keyFile != "" && o.Key == "" {
		raw, err := readKey(o.keyFile)
		if err != nil {
			return o, fmt.Errorf("--key-file: %w", err)
		}
		o.Key = strings.TrimSpace(string(raw))
	}
	if o.redactFile != "" {
		if o.RedactKey, err = readKey(o.redactFile); err != nil {
			return o, fmt.Errorf("--redact-key-file: %w", err)
		}
	}
	o.UserAgent = "konstruct-hook/" + c.Version
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	o.Logger = slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: level}))
	return o, nil
}

// maxKey is how many bytes a key's file may have.
const maxKey = 4 << 10

func readKey(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxKey) {
		err = fmt.Errorf("%s is no file of at most %d bytes", path, maxKey)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// defaultDir is the user's own folder of state (XDG Base Directory Specification).
func (c Command) defaultDir() (string, error) {
	base := c.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		home := c.Getenv("HOME")
		if home == "" {
			return "", errors.New("--capture-dir: say where events wait: this user has no home folder")
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "konstruct", "capture"), nil
}

// open opens the client. Without a service or with a wrong one, events wait: they are not lost.
func (c Command) open(o options) (*client.Client, error) {
	k, err := client.Open(o.Config)
	if err == nil {
		return k, nil
	}
	alone := o.Config
	alone.URL, alone.Key, alone.RedactKey = "", "", nil
	k, other := client.Open(alone)
	if other != nil {
		return nil, err
	}
	return k, err
}

// hook handles one hook.
func (c Command) hook(ctx context.Context, o options, begin time.Time) int {
	raw, err := []byte(o.notify), error(nil)
	if o.notify == "" {
		raw, err = io.ReadAll(io.LimitReader(c.In, MaxInput+1))
	}
	failed := 1
	if o.FailClosed {
		failed = 2
	}
	if err != nil {
		fmt.Fprintln(c.Err, note("the hook's input breaks off: %v", err))
		return failed
	}
	k, problem := c.open(o)
	if k == nil {
		fmt.Fprintln(c.Err, note("this hook could not be recorded: %v", problem))
		return failed
	}
	if problem != nil {
		fmt.Fprintln(c.Err, note("events wait in %s: %v", o.SpoolDir, problem))
	}
	h := New(k)
	h.Program, h.FailClosed, h.Timeout, h.Logger, h.begin = o.program, o.FailClosed, o.timeout, o.Logger, begin
	var r Reply
	if len(raw) > MaxInput {
		r = h.unreadable(ctx, raw[:client.MaxText], fmt.Errorf("it is longer than %d bytes", MaxInput))
	} else {
		r = h.Handle(ctx, raw)
	}
	if r.Note != "" {
		fmt.Fprintln(c.Err, r.Note)
	}
	if _, err := c.Out.Write(r.Stdout); err != nil && r.Code == 0 {
		r.Code = failed
	}
	if err := c.startFlush(k, o); err != nil {
		o.Logger.Warn("nobody delivers", "error", err)
	}
	return r.Code
}

// startFlush starts a process that delivers, unless one does.
func (c Command) startFlush(k *client.Client, o options) error {
	if len(c.Self) == 0 || !k.Due() {
		return nil
	}
	args := append(c.Self[1:len(c.Self):len(c.Self)], "flush", "--url", o.URL, "--key-file", o.keyFile, "--capture-dir",
		o.SpoolDir, "--capture-limit", fmt.Sprint(o.SpoolLimit))
	cmd := exec.Command(c.Self[0], args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives the agent's process group
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process that delivers: %w", err)
	}
	return cmd.Process.Release()
}

// idleTime is how long the process that delivers waits for more.
const idleTime = 15 * time.Second

// flush delivers in the background.
func (c Command) flush(ctx context.Context, o options) error {
	k, err := c.open(o)
	if err != nil {
		return err
	}
	if err := CloseOld(ctx, k); err != nil {
		return err
	}
	if err := k.Run(ctx, idleTime); !errors.Is(err, client.ErrDelivering) {
		return err
	}
	return nil
}

// deliver delivers once, and says what happened.
func (c Command) deliver(ctx context.Context, o options) error {
	k, err := c.open(o)
	if err != nil {
		return err
	}
	if _, err := k.Adopt(ctx, o.adopt); err != nil {
		o.Logger.Warn("events under other keys are left", "error", err)
	}
	d, err := k.Deliver(ctx)
	fmt.Fprintf(c.Out, "%d delivered, %d rejected\n", d.Delivered, d.Rejected)
	return err
}

func (c Command) status(o options) error {
	k, problem := c.open(o)
	if k == nil {
		return problem
	}
	st, err := k.Status()
	if err != nil {
		return err
	}
	if problem != nil {
		st.Problem = problem.Error()
	}
	others, err := k.Others()
	if err != nil {
		return err
	}
	return c.json(struct {
		client.Status
		Others []client.Other `json:"under_other_keys,omitempty"`
	}{st, others})
}

func (c Command) rejected(o options) error {
	k, problem := c.open(o)
	if k == nil {
		return problem
	}
	all, err := k.Rejects()
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := c.json(r); err != nil {
			return err
		}
	}
	return nil
}

func (c Command) json(v any) error {
	e := json.NewEncoder(c.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
