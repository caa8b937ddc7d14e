package search_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/search"
)

// languageCollection is a file of testdata/languages.
type languageCollection struct {
	Language  string
	Passages  []struct{ ID, Text string }
	Questions []struct {
		Text    string
		Answers []string
		Tests   string
	}
}

// configurations are PostgreSQL's of the languages; of the others words are taken as they are.
var configurations = map[string]string{"ar": "arabic", "de": "german", "el": "greek", "en": "english", "es": "spanish",
	"fi": "finnish", "fr": "french", "hi": "hindi", "it": "italian", "nl": "dutch", "pt": "portuguese", "ru": "russian",
	"sv": "swedish", "tr": "turkish"}

// configuration is the language that its passages are read in.
func (c *languageCollection) configuration() string {
	if name := configurations[c.Language]; name != "" {
		return name
	}
	return "simple"
}

func languageCollections(t *testing.T) (all []languageCollection) {
	t.Helper()
	files, err := filepath.Glob("testdata/languages/*.json")
	if err != nil || len(files) != 20 {
		t.Fatalf("%d languages: %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var c languageCollection
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, c)
	}
	return all
}

// TestTwentyLanguages asks ten natural questions in each of twenty languages, by words alone. The right passage comes
// first.
func TestTwentyLanguages(t *testing.T) {
	door := testkit.Door(t)
	asked, first := 0, 0
	for _, c := range languageCollections(t) {
		tenant := uuid.NewSHA1(tenantA, []byte(c.Language))
		texts := map[string]string{}
		for _, p := range c.Passages {
			texts[p.ID] = p.Text
		}
		say(t, door, tenant, c.configuration(), texts)
		for _, question := range c.Questions {
			f := ask(t, door, tenant, search.Query{Mode: search.Lexical, Natural: true, Text: question.Text, K: 3})
			asked++
			if len(f.Hits) > 0 && slices.Contains(question.Answers, f.Hits[0].Filename) {
				first++
				continue
			}
			t.Logf("%s, %s: %s finds %s, want %s", c.Language, question.Tests, question.Text, named(f.Hits),
				strings.Join(question.Answers, " "))
		}
	}
	t.Logf("%d of %d questions have their passage first", first, asked)
	if asked != 200 || first < 195 {
		t.Errorf("%d of %d questions have their passage first", first, asked)
	}
}
