package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/internal/llmfake"
)

// Bodies of calls: as a chat's, and as an agent's with a history of 100 KB.
const (
	shortCall = `{"model":"gpt-fake-5","messages":[{"role":"user","content":"How long may a customer return a pump?"}]`
	callUsage = `,"stream":true,"stream_options":{"include_usage":true}`
)

// Gateway measures calls of a model directly and through the gateway, and events alone, alternately: until the response
// is complete, and of streams until the first byte. Each call through the gateway is committed on the trail before it
// is complete; an event alone takes what that takes.
func (b *Bench) Gateway(ctx context.Context, s ServiceConfig) (lines []Measurement, err error) {
	up, end, err := llmfake.Start()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	key := filepath.Join(b.Dir, "vendor.key")
	if err := os.WriteFile(key, []byte(llmfake.Key), 0o600); err != nil {
		return nil, err
	}
	config, err := json.Marshal(gateway.Config{Upstreams: []gateway.Upstream{{Name: "fake", API: gateway.OpenAI,
		BaseURL: up.URL + "/openai/v1", KeyFile: key}}})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.Dir, "gateway.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	s.Env = append(s.Env, "KONSTRUCT_GATEWAY_FILE="+file)
	_, sv, stop, err := b.serving(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	history := strings.Repeat(`{"role":"user","content":"`+strings.Repeat("a pump ", 140)+`"},`, 100)
	long := strings.Replace(shortCall, `"messages":[`, `"messages":[`+history, 1)
	for _, c := range []struct{ what, body string }{{"chat", shortCall + "}"}, {"chat of 100 KB", long + "}"},
		{"stream", shortCall + callUsage + "}"}} {
		direct, through, events := &callTimes{}, &callTimes{}, &callTimes{}
		for begin := time.Now(); time.Since(begin) < b.Time || len(direct.whole) < 20; {
			const path, asJSON = "/openai/v1/chat/completions", "application/json"
			err := errors.Join(direct.call(ctx, sv.client, up.URL+path, llmfake.Key, asJSON, c.body),
				through.call(ctx, sv.client, sv.url+path, sv.keys[0], asJSON, c.body),
				events.call(ctx, sv.client, sv.url+"/v1/events", sv.keys[0], asJSON, eventJSON))
			if err != nil {
				return nil, err
			}
		}
		for _, m := range []struct {
			what          string
			direct, ours  []time.Duration
			onlyOfStreams bool
		}{{"complete", direct.whole, through.whole, false}, {"first byte", direct.first, through.first, true}} {
			if m.onlyOfStreams && c.what != "stream" {
				continue
			}
			base := callLine(c.what+", "+m.what+", directly", m.direct)
			ours := callLine(c.what+", "+m.what+", through the gateway", m.ours)
			ours.Baseline = base.What
			ours.Note = fmt.Sprintf("adds %.2f ms at the median, %.2f ms at p99", ours.P50-base.P50, ours.P99-base.P99)
			lines = append(lines, base, ours)
		}
		alone := callLine("an event alone, between these", events.whole)
		lines = append(lines, alone)
	}
	return lines, nil
}

// callTimes are the times of calls until their first byte and their end.
type callTimes struct{ first, whole []time.Duration }

// call makes one call, without the first ones, which open connections.
func (t *callTimes) call(ctx context.Context, client *http.Client, url, key, kind, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", kind)
	begin := time.Now()
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	_, err = in.ReadByte()
	first := time.Since(begin)
	if errors.Is(err, io.EOF) { // an empty body is an answer
		err = nil
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	if err != nil || res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("a call is answered with %d: %w", res.StatusCode, err)
	}
	t.first, t.whole = append(t.first, first), append(t.whole, time.Since(begin))
	return nil
}

func callLine(what string, times []time.Duration) Measurement {
	sorted := slices.Clone(times[min(10, len(times)/2):]) // without those that open connections
	slices.Sort(sorted)
	total := time.Duration(0)
	for _, t := range sorted {
		total += t
	}
	at := func(q float64) float64 {
		return float64(sorted[int(q*float64(len(sorted)-1))].Microseconds()) / 1000
	}
	return Measurement{What: what, Unit: "calls", Rate: float64(len(sorted)) / total.Seconds(), P50: at(0.5),
		P99: at(0.99), Note: fmt.Sprintf("%d calls", len(sorted))}
}
