package export

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
)

var columns = []string{"id", "tenant_id", "created_at", "recorded_at", "agent_id", "user_id", "action_type",
	"input_summary", "output_summary", "latency_ms", "metadata", "leaf_hash", "adopted", "erased"}

type csvFile struct{ to *csv.Writer }

func openCSV(w io.Writer) (encoder, error) {
	f := &csvFile{csv.NewWriter(w)} // RFC 4180
	return f, f.to.Write(columns)
}

func (f *csvFile) add(tenant uuid.UUID, e *audit.StoredEvent) error {
	agent, recorded, latency := "", "", ""
	if e.AgentID != nil {
		agent = e.AgentID.String()
	}
	if e.RecordedAt != nil {
		recorded = e.RecordedAt.Format(time.RFC3339Nano)
	}
	if e.LatencyMS != nil {
		latency = strconv.Itoa(int(*e.LatencyMS))
	}
	if err := f.to.Write([]string{e.ID.String(), tenant.String(), e.CreatedAt.Format(time.RFC3339Nano), recorded, agent,
		harmless(cellText(e.UserID)), harmless(e.Action), harmless(cellText(e.Input)), harmless(cellText(e.Output)),
		latency, harmlessJSON(string(e.Metadata)), e.LeafHash, strconv.FormatBool(e.Adopted),
		strings.Join(e.Erased, " ")}); err != nil {
		return err
	}
	f.to.Flush()
	return f.to.Error()
}

func (f *csvFile) end() error {
	f.to.Flush()
	return f.to.Error()
}

func cellText(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
