package llmfake

import (
	"fmt"
	"strings"
)

const responseUsage = `{"input_tokens":2006,"input_tokens_details":{"cached_tokens":1920,"cache_write_tokens":16},` +
	`"output_tokens":300,"output_tokens_details":{"reasoning_tokens":128},"total_tokens":2306}`

// responses answers as the Responses API.
func (s *script) responses() {
	body := func(status, output, usage string) string {
		return `{"id":"resp_fake","object":"response","created_at":1767225600,"status":"` + status + `",` +
			`"background":false,"error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,` +
			`"model":"gpt-fake-5-2026-01-01","output":[` + output + `],"parallel_tool_calls":true,` +
			`"previous_response_id":null,"reasoning":{"effort":"medium","summary":null},"service_tier":"default",` +
			`"store":false,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],` +
			`"top_p":1.0,"truncation":"disabled","usage":` + usage + `,"user":null,"metadata":{}}`
	}
	message := func(status, text string) string {
		return `{"id":"msg_fake","type":"message","status":"` + status + `","role":"assistant","content":[` +
			text + `]}`
	}
	text := func(t string) string {
		return `{"type":"output_text","annotations":[],"logprobs":[],"text":` + quoted(t) + `}`
	}
	made := func(n int, c *call, status, arguments string) string {
		return fmt.Sprintf(`{"id":"fc_fake%d","type":"function_call","status":%q,"arguments":%s,"call_id":%q,`+
			`"name":%q}`, n, status, quoted(arguments), c.id, c.name)
	}
	r := s.reply()
	var output []string
	if len(r.pieces) > 0 {
		output = append(output, message("completed", text(r.text())))
	}
	for n, c := range r.calls {
		output = append(output, made(n, &c, "completed", c.arguments()))
	}
	if !s.q.Stream {
		s.whole(body("completed", strings.Join(output, ","), responseUsage))
		return
	}
	var events []string
	add := func(kind, rest string) {
		events = append(events, fmt.Sprintf("event: %s\ndata: {\"type\":%q,\"sequence_number\":%d,%s}\n\n", kind, kind,
			len(events), rest))
	}
	add("response.created", `"response":`+body("in_progress", "", "null"))
	add("response.in_progress", `"response":`+body("in_progress", "", "null"))
	if len(r.pieces) > 0 {
		at := `"item_id":"msg_fake","output_index":0,"content_index":0,`
		add("response.output_item.added", `"output_index":0,"item":`+message("in_progress", ""))
		add("response.content_part.added", at+`"part":`+text(""))
		for _, w := range r.pieces {
			add("response.output_text.delta", at+`"logprobs":[],"delta":`+quoted(w))
		}
		add("response.output_text.done", at+`"logprobs":[],"text":`+quoted(r.text()))
		add("response.content_part.done", at+`"part":`+text(r.text()))
		add("response.output_item.done", `"output_index":0,"item":`+output[0])
	}
	for n, c := range r.calls {
		index := len(output) - len(r.calls) + n
		at := fmt.Sprintf(`"item_id":"fc_fake%d","output_index":%d,`, n, index)
		add("response.output_item.added", fmt.Sprintf(`"output_index":%d,"item":%s`, index,
			made(n, &c, "in_progress", "")))
		for _, a := range c.pieces {
			add("response.function_call_arguments.delta", at+`"delta":`+quoted(a))
		}
		add("response.function_call_arguments.done", at+fmt.Sprintf(`"name":%q,"arguments":%s`, c.name,
			quoted(c.arguments())))
		add("response.output_item.done", fmt.Sprintf(`"output_index":%d,"item":%s`, index, output[index]))
	}
	if s.how == "error-event" {
		events = events[:5]
		add("error", `"code":"server_error","message":"The server had an error","param":null`)
	} else {
		add("response.completed", `"response":`+body("completed", strings.Join(output, ","), responseUsage))
	}
	s.stream(events)
}

// messages answers as Anthropic's Messages API, whose input_tokens are those that were neither read from nor written to
// the cache: 2006 - 1920 - 16.
func (s *script) messages() {
	usage := func(output int) string {
		return fmt.Sprintf(`{"input_tokens":70,"cache_creation_input_tokens":16,"cache_read_input_tokens":1920,`+
			`"cache_creation":{"ephemeral_5m_input_tokens":16,"ephemeral_1h_input_tokens":0},"output_tokens":%d,`+
			`"output_tokens_details":{"thinking_tokens":128},"service_tier":"standard"}`, output)
	}
	head := `"id":"msg_fake","type":"message","role":"assistant","model":"claude-fake-5-20260101"`
	block, reason := `{"type":"text","text":`+quoted(Text)+`}`, "end_turn"
	if s.q.callsTool() {
		block, reason = `{"type":"tool_use","id":"toolu_1","name":"get_weather","input":`+
			strings.Join(Arguments(), "")+`}`, "tool_use"
	}
	if !s.q.Stream {
		s.whole(`{` + head + `,"content":[` + block + `],"stop_reason":"` + reason + `","stop_sequence":null,"usage":` +
			usage(300) + `}`)
		return
	}
	var events []string
	add := func(kind, rest string) {
		events = append(events, "event: "+kind+"\ndata: {\"type\":\""+kind+"\""+rest+"}\n\n")
	}
	add("message_start", `,"message":{`+head+`,"content":[],"stop_reason":null,"stop_sequence":null,"usage":`+
		usage(1)+`}`)
	if s.q.callsTool() {
		add("content_block_start", `,"index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"get_weather",`+
			`"input":{}}`)
		add("ping", "")
		for _, a := range Arguments() {
			add("content_block_delta", `,"index":0,"delta":{"type":"input_json_delta","partial_json":`+quoted(a)+`}`)
		}
	} else {
		add("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`)
		add("ping", "")
		for _, w := range words() {
			add("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":`+quoted(w)+`}`)
		}
	}
	add("content_block_stop", `,"index":0`)
	if s.how == "error-event" {
		events = events[:5]
		add("error", `,"error":{"type":"overloaded_error","message":"Overloaded"}`)
		s.stream(events)
		return
	}
	add("message_delta", `,"delta":{"stop_reason":"`+reason+`","stop_sequence":null},"usage":`+usage(300))
	add("message_stop", "")
	s.stream(events)
}
