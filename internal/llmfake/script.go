package llmfake

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// script writes one response.
type script struct {
	u   *Upstream
	w   http.ResponseWriter
	r   *http.Request
	how string
	q   *asked
}

// Arguments are those of the tool call that a model answers with, in pieces that cut names and characters.
func Arguments() []string { return []string{``, `{"ci`, `ty":"Kö`, `ln","days":3`, `0}`} }

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return strings.TrimSpace(b.String())
}

// words are the text in pieces.
func words() []string { return strings.SplitAfter(Text, " ") }

// whole writes a body that is no stream, compressed where the header says so.
func (s *script) whole(body string) {
	s.w.Header().Set("Content-Type", "application/json")
	if s.how == "gzip" && strings.Contains(s.r.Header.Get("Accept-Encoding"), "gzip") {
		s.w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(s.w)
		_, _ = io.WriteString(z, body)
		_ = z.Close()
		return
	}
	if s.how == "break" {
		s.w.Header().Set("Content-Length", fmt.Sprint(len(body)+10))
		_, _ = io.WriteString(s.w, body[:len(body)/2])
		s.abort()
	}
	_, _ = io.WriteString(s.w, body)
}

func (s *script) abort() {
	_ = http.NewResponseController(s.w).Flush()
	panic(http.ErrAbortHandler)
}

// stream writes events, and breaks off as the request's header says.
func (s *script) stream(events []string) {
	s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	s.w.Header().Set("Set-Cookie", "__cf_bm=secret; path=/; domain=.vendor.example")
	control := http.NewResponseController(s.w)
	for i, e := range events {
		if i == len(events)/2 {
			switch s.how {
			case "break":
				s.abort()
			case "break-utf8":
				cut := strings.Index(e, "ü")
				if cut < 0 {
					cut = len(e) / 2
				}
				_, _ = io.WriteString(s.w, e[:cut+1])
				s.abort()
			case "end-early":
				return
			case "stall":
				s.u.stall(s.r)
			case "bytes": // one byte at a time
				for _, e := range events[i:] {
					for n := range len(e) {
						_, _ = io.WriteString(s.w, e[n:n+1])
						_ = control.Flush()
					}
				}
				return
			}
		}
		_, _ = io.WriteString(s.w, e)
		_ = control.Flush()
		if s.how == "slow" {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

const chatUsage = `{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":` +
	`{"cached_tokens":1920,"cache_write_tokens":16,"audio_tokens":0},"completion_tokens_details":` +
	`{"reasoning_tokens":128,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`

func (s *script) chat() {
	const head = `"id":"chatcmpl-fake","object":%q,"created":1767225600,"model":"gpt-fake-5-2026-01-01",` +
		`"service_tier":"default","system_fingerprint":"fp_fake"`
	r := s.reply()
	if !s.q.Stream {
		message, reason := `{"role":"assistant","content":`+quoted(r.text())+`,"refusal":null,"annotations":[]}`, "stop"
		if len(r.calls) > 0 {
			reason = "tool_calls"
			calls := make([]string, len(r.calls))
			for i, c := range r.calls {
				calls[i] = `{"id":"` + c.id + `","type":"function","function":{"name":"` + c.name + `","arguments":` +
					quoted(c.arguments()) + `}}`
			}
			content := "null"
			if len(r.pieces) > 0 {
				content = quoted(r.text())
			}
			message = `{"role":"assistant","content":` + content + `,"tool_calls":[` + strings.Join(calls, ",") + `]}`
		}
		s.whole(fmt.Sprintf(`{`+head+`,"choices":[{"index":0,"message":%s,"logprobs":null,"finish_reason":%q}],"usage":%s}`,
			"chat.completion", message, reason, chatUsage))
		return
	}
	chunk := func(choices, usage string) string {
		return "data: {" + fmt.Sprintf(head, "chat.completion.chunk") + `,"choices":[` + choices + `]` + usage + "}\n\n"
	}
	null := ""
	if s.q.StreamOptions.IncludeUsage {
		null = `,"usage":null`
	}
	delta := func(d, reason string) string {
		return chunk(`{"index":0,"delta":`+d+`,"logprobs":null,"finish_reason":`+reason+`}`, null)
	}
	events := []string{delta(`{"role":"assistant","content":""}`, "null")}
	reason := `"stop"`
	for _, piece := range r.pieces {
		events = append(events, delta(`{"content":`+quoted(piece)+`}`, "null"))
	}
	for n, c := range r.calls {
		reason = `"tool_calls"`
		for i, a := range append([]string{""}, c.pieces...) {
			if i == 0 {
				events = append(events, delta(fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":%q,"type":"function",`+
					`"function":{"name":%q,"arguments":""}}]}`, n, c.id, c.name), "null"))
			} else if a != "" {
				events = append(events, delta(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}`,
					n, quoted(a)), "null"))
			}
		}
	}
	events = append(events, delta(`{}`, reason))
	if s.q.StreamOptions.IncludeUsage {
		events = append(events, chunk("", `,"usage":`+chatUsage))
	}
	if s.how == "error-event" {
		events = append(events[:3], `data: {"error":{"message":"The server had an error","type":"server_error",`+
			`"param":null,"code":null}}`+"\n\n")
	}
	s.stream(append(events, "data: [DONE]\n\n"))
}

func (s *script) embeddings() {
	s.whole(`{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-0.5,1.0]}],` +
		`"model":"embed-fake","usage":{"prompt_tokens":5,"total_tokens":5}}`)
}
