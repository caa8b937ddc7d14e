package server_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestAClientLeavesAFileSearch: in the model's second answer. The call is recorded as one whose client left, and the
// upstream's is cancelled.
func TestAClientLeavesAFileSearch(t *testing.T) {
	w, _, store, key := fileWorld(t)
	for _, path := range []string{searchRes, searchChat} {
		ctx, cancel := context.WithCancel(t.Context())
		body := responseOf(fileTool(store, ""), `,"stream":true`)
		if path == searchChat {
			body = chatOf(fileTool(store, ""), `,"stream":true`)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("X-Fake", "then-stall")
		r.Header.Set("X-Konstruct-Conversation", "left "+path)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(res.Body); lines.Scan() && !strings.Contains(lines.Text(), "sent"); {
		}
		cancel()
		res.Body.Close()
		testkit.Until(t, "the call is on the trail", func() bool {
			run, err := audit.GetRun(t.Context(), w.k.Door(), acme, "left "+path)
			return err == nil && len(run.Steps) == 2 &&
				strings.Contains(string(run.Steps[1].Metadata), `"error.type": "client_closed"`)
		})
	}
}

// TestAStoreGoesDuringAFileSearch: between the look at it and the search. The client is told, as if it never was there.
func TestAStoreGoesDuringAFileSearch(t *testing.T) {
	w, up, store, key := fileWorld(t)
	id, super := uuid.MustParse(strings.TrimPrefix(store, "vs_")), testkit.Connect(t, w.d.SuperuserURL())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for len(up.Requests()) == 0 { // the model is asked, and answers slowly
			time.Sleep(time.Millisecond)
		}
		if _, err := super.Exec(context.Background(), `UPDATE kb_collections SET expired = true WHERE id = $1`,
			id); err != nil {
			t.Error(err)
		}
	}()
	r := w.ask("POST", searchRes, key, responseOf(fileTool(store, ""), `,"stream":true`), "X-Fake", "slow")
	<-done
	if r.StatusCode != 200 || !strings.Contains(r.body, `"type":"response.failed"`) ||
		!strings.Contains(r.body, `"code":"vector_store_expired"`) || len(up.Requests()) != 1 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

// TestLabelsHoldInFileSearch: a key without a document's label finds what it may see, and nothing else.
func TestLabelsHoldInFileSearch(t *testing.T) {
	w, _, store, _ := fileWorld(t)
	key := w.keyOf(acme, access.KeyRequest{Permissions: []access.Permission{access.GatewayUse, access.KBRead}})
	collection := uuid.MustParse(strings.TrimPrefix(store, "vs_")).String()
	admin := w.key(acme)
	documents := decodeTo[struct {
		Items []struct {
			ID         string         `json:"document_id"`
			Attributes map[string]any `json:"attributes"`
		} `json:"items"`
	}](t, w.want(200, "GET", "/v1/collections/"+collection+"/documents", admin, "").body)
	if len(documents.Items) != 3 {
		t.Fatalf("%+v", documents)
	}
	for _, d := range documents.Items {
		if d.Attributes["file"] != "returns.md" {
			continue
		}
		if _, err := testkit.Connect(t, w.d.SuperuserURL()).Exec(t.Context(),
			`UPDATE kb_sources SET labels = '{legal}' WHERE document_id = $1`, d.ID); err != nil {
			t.Fatal(err)
		}
	}
	r := w.ask("POST", searchRes, key, responseOf(fileTool(store, ""), `,"include":["file_search_call.results"]`))
	if r.StatusCode != 200 || strings.Contains(r.body, "thirty days") || !strings.Contains(r.body, "impeller") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}
