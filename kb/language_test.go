package kb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// readIn is the language that a text is read in, and whether it is evident.
func readIn(t *testing.T, door *tenantdb.Door, tenant uuid.UUID, text string) (language string, evident bool) {
	t.Helper()
	if err := door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		language, evident, err = kb.TextLanguage(ctx, tx, tenant, "", text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return language, evident
}

// TestTheLanguageOfAParagraph guesses it from paragraphs of two to four sentences, in a tenant that has nothing.
func TestTheLanguageOfAParagraph(t *testing.T) {
	door := testkit.Door(t)
	names := map[string]string{"ar": "arabic", "de": "german", "el": "greek", "en": "english", "es": "spanish",
		"fi": "finnish", "fr": "french", "he": kb.AnyLanguage, "hi": "hindi", "it": "italian", "ja": kb.AnyLanguage,
		"ko": kb.AnyLanguage, "nl": "dutch", "pl": "english", "pt": "portuguese", "ru": "russian", "sv": "swedish",
		"th": kb.AnyLanguage, "tr": "turkish", "zh": kb.AnyLanguage} // Polish has no stemmer: the default one
	files, err := filepath.Glob("../search/testdata/languages/*.json")
	if err != nil || len(files) != len(names) {
		t.Fatal(files, err)
	}
	all, right := 0, 0
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Language string
			Passages []struct{ Text string }
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Passages {
			language, _ := readIn(t, door, tenantA, p.Text)
			if all++; language == names[c.Language] {
				right++
			} else {
				t.Logf("%s is read in %s: %s", c.Language, language, p.Text)
			}
		}
	}
	t.Logf("%d of %d paragraphs are read in their language", right, all)
	if right < all*97/100 {
		t.Errorf("%d of %d paragraphs are read in their language", right, all)
	}
}

// TestDefaultLanguagesAreOfEvidence ingests one Arabic document, and English lists that give no evidence: they are read
// in English, and say nothing of others.
func TestDefaultLanguagesAreOfEvidence(t *testing.T) {
	b := newBase(t)
	dir := t.TempDir()
	paths := []string{write(t, dir+"/a.txt",
		"تعمل المضخة بالماء النظيف فقط، ويجب شطف الدوار كل شهر بالماء الدافئ.")}
	for i := range 6 {
		paths = append(paths, write(t, fmt.Sprintf("%s/%d.txt", dir, i), fmt.Sprintf("Pumps, valves, seals %d.", i)))
	}
	b.files(t, tenantA, paths...)
	for text, want := range map[string]string{"Batteries are swapped.": "english", "Pumpen.": "english",
		"الدوار": "arabic", "12.5": "english", "": "english"} {
		if language, evident := readIn(t, b.door, tenantA, text); language != want || evident != (want == "arabic") {
			t.Errorf("%q is read in %s, evident: %t", text, language, evident)
		}
	}
	b.setLanguage(t, tenantA, "german")
	for text, want := range map[string]string{"Batteries are swapped.": "german", "الدوار": "arabic",
		"The pump is to be rinsed with the water of the house, and it is what they have.": "english"} {
		if language, _ := readIn(t, b.door, tenantA, text); language != want {
			t.Errorf("with German as the default %q is read in %s", text, language)
		}
	}
	if language, _ := readIn(t, b.door, tenantB, "Batteries are swapped."); language != "english" {
		t.Errorf("another tenant's text is read in %s", language)
	}
}
