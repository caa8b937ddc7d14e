package konstruct_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/internal/devpg"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// ingestTexts ingests texts as files, by their names, as a tenant of their own.
func ingestTexts(t *testing.T, texts map[string]string) *konstruct.Tenant {
	t.Helper()
	k, err := konstruct.Open(t.Context(), konstruct.Config{DatabaseURL: testkit.Database(t).URL("konstruct_app"),
		AssetsDir: devpg.AssetsDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tenant := k.Tenant(uuid.New())
	if err := tenant.Agent(uuid.New()).Ingest(t.Context(), []string{dir}, konstruct.DocumentOptions{},
		func(r konstruct.IngestResult) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}, nil); err != nil {
		t.Fatal(err)
	}
	return tenant
}

func firstOf(t *testing.T, tenant *konstruct.Tenant, mode search.Mode, question string) string {
	t.Helper()
	r, err := tenant.Agent(uuid.New()).SearchWith(t.Context(), konstruct.SearchRequest{Text: question, Mode: mode,
		Operators: new(bool)})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Hits) == 0 {
		return ""
	}
	return r.Hits[0].Filename
}

// TestAFrenchMenuAmongEnglishPages asks a tenant of nine short documents, one of them French, an English question: its
// stop words are none of the menu's, and do not decide.
func TestAFrenchMenuAmongEnglishPages(t *testing.T) {
	tenant := ingestTexts(t, map[string]string{
		"menu.md": "Menu. La crème brûlée coûte huit euros. Le plat du jour est servi avec une salade verte et du " +
			"pain frais, et les enfants mangent à moitié prix.",
		"returns.md": "Returns. A pump may be returned within 30 days of delivery. Who returns it pays the postage.",
		"hours.md":   "Opening hours. The shop is open from Monday to Friday. How the staff is reached is on the door.",
		"warranty.md": "Warranty. The warranty on every pump is two years. It is void when the seal is broken by the " +
			"customer.",
		"travel.md":   "Travel expenses. How much is paid for a night is in the table. One keeps the receipts.",
		"leave.md":    "Medical leave. The employee tells the office on the first day that he is ill.",
		"safety.md":   "Safety. The cleaner is corrosive. Gloves are worn. It is kept in the locked cabinet.",
		"invoices.md": "Invoices. An invoice is paid within two weeks. The number of the order is on it.",
		"parking.md":  "Parking. The lot behind the house is for guests. How long one may stay is on the sign.",
	})
	for _, mode := range []search.Mode{search.Semantic, search.Lexical, search.Hybrid} {
		if first := firstOf(t, tenant, mode, "How much is the crème brûlée?"); first != "menu.md" {
			t.Errorf("%s: %s comes first", mode, first)
		}
	}
	language, err := tenant.Documents().Language(t.Context())
	if err != nil || language != "english" {
		t.Errorf("the default language is %s: %v", language, err)
	}
}

// TestTwoListsOfKeywordsAmongAbstracts asks a tenant of forty English abstracts, two of them keywords that no detector
// is sure of, in full sentences: the two do not come first.
func TestTwoListsOfKeywordsAmongAbstracts(t *testing.T) {
	topics := strings.Fields("pumps valves boilers turbines compressors filters gearboxes bearings nozzles tanks")
	texts := map[string]string{
		"list1.txt": "advantages, pumps, valves, what, are, the, of, keywords, index, plant, report, tables, filters",
		"list2.txt": "the, is, how, turbines, gearboxes, index of terms, water, office, measurements, advantages",
	}
	for i := range 38 {
		topic := topics[i%len(topics)]
		texts[fmt.Sprintf("abstract%02d.txt", i)] = fmt.Sprintf("This report describes the advantages of %s in plant "+
			"%d. It is one of the oldest of its kind, and the results of the measurements are in the tables. The "+
			"%s were tested for %d hours, and what was found is that they work as they should when the water is clean.",
			topic, i, topic, 7*i)
	}
	tenant := ingestTexts(t, texts)
	for _, question := range []string{"What are the advantages of the turbines in the plant?",
		"How is it that the gearboxes work when the water is clean?", "Which of the reports is about nozzles?",
		"What was found when the compressors were tested?"} {
		for _, mode := range []search.Mode{search.Lexical, search.Hybrid} {
			if first := firstOf(t, tenant, mode, question); !strings.HasPrefix(first, "abstract") {
				t.Errorf("%s, %s: %q comes first", mode, question, first)
			}
		}
	}
}
