package evidence

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"html/template"
	"io"
	"time"
	"unicode/utf8"

	"github.com/konstruct/konstruct/ledger"
)

// maxListed is how many events the summary page lists; the bundle has all.
const maxListed = 1000

//go:embed summary.html
var summaryHTML string

// listedEvent is an event on the summary page.
type listedEvent struct {
	ID, Recorded, Agent, User, Action, Latency, Input, Output, Metadata string
}

const (
	withheldMark = "(withheld)"
	erasedMark   = "(erased)"
)

// maxListedText is how many bytes of a field the summary page shows.
const maxListedText = 2000

// cutBytes cuts a text at maxListedText, even inside a character: summary pages were written so once.
func cutBytes(b []byte) string { return string(b[:maxListedText]) + "…" }

// cutText cuts a text at maxListedText, or up to three bytes before it, at the end of a character.
func cutText(b []byte) string {
	end := maxListedText
	for i := end; i > end-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return string(b[:i]) + "…"
		}
	}
	return string(b[:end]) + "…" // it is no UTF-8
}

// listEvent returns a record as text, with long fields cut.
func listEvent(r *ledger.Record, cut func([]byte) string) listedEvent {
	text := func(f ledger.Field) string {
		s := &r.Shown[f-1]
		switch {
		case r.Erased.Has(f):
			return erasedMark
		case !s.Open:
			return withheldMark
		case s.Null:
			return ""
		case len(s.Value) > maxListedText:
			return cut(s.Value)
		}
		return string(s.Value)
	}
	l := listedEvent{ID: ledger.FormatID(r.ID), Recorded: timeText(r.RecordedAt), User: text(ledger.UserID),
		Action: text(ledger.ActionType),
		Input:  text(ledger.InputSummary), Output: text(ledger.OutputSummary), Metadata: text(ledger.Metadata),
		Agent: text(ledger.AgentID), Latency: text(ledger.LatencyMS)}
	if s := r.Shown[ledger.AgentID-1]; s.Open {
		l.Agent = ""
		if len(s.Value) == 16 && !s.Null {
			l.Agent = ledger.FormatID([16]byte(s.Value))
		}
	}
	if s := r.Shown[ledger.LatencyMS-1]; s.Open {
		l.Latency = ""
		if len(s.Value) == 4 && !s.Null {
			l.Latency = fmt.Sprint(int32(binary.BigEndian.Uint32(s.Value)))
		}
	}
	return l
}

func timeText(m ledger.Micros) string { return m.Time().Format("2006-01-02T15:04:05.000000Z") }

// writeSummary writes the summary page. It has only what the rest of the bundle proves, so the verifier can make it
// again.
func writeSummary(to io.Writer, m *Manifest, excluded, deleted int64, acts []*Act, events []listedEvent) error {
	page, err := template.New("summary").Parse(summaryHTML)
	if err != nil {
		return err
	}
	from := "its first event"
	if m.From != nil {
		from = timeText(m.From.At)
	}
	return page.Execute(to, struct {
		Tenant, Filter, From, To, Made, Super string
		Matching, Excluded, Deleted           int64
		Acts                                  []*Act
		Withheld                              []string
		Keys                                  []Key
		Events                                []listedEvent
		More                                  bool
	}{m.Tenant, m.Filter.String(), from, timeText(m.To.At), m.CreatedAt.Format(time.RFC3339), m.Super, m.Matching,
		excluded, deleted, acts, m.Withheld, m.Keys, events, m.Matching > int64(len(events))})
}
