package kb

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/abadojack/whatlanggo"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Text search configurations that have a part of their own.
const (
	AnyLanguage = "simple"  // takes words as they are
	English     = "english" // of a tenant that gives no evidence of another
)

// configuration is PostgreSQL's text search configuration for a language (ISO 639-1), of those that version 15 has;
// anyLanguage for others.
func configuration(code string) string {
	switch code {
	case "ar":
		return "arabic"
	case "ca":
		return "catalan"
	case "da":
		return "danish"
	case "de":
		return "german"
	case "el":
		return "greek"
	case "en":
		return "english"
	case "es":
		return "spanish"
	case "eu":
		return "basque"
	case "fi":
		return "finnish"
	case "fr":
		return "french"
	case "hi":
		return "hindi"
	case "hu":
		return "hungarian"
	case "hy":
		return "armenian"
	case "id":
		return "indonesian"
	case "ga":
		return "irish"
	case "it":
		return "italian"
	case "lt":
		return "lithuanian"
	case "ne":
		return "nepali"
	case "nl":
		return "dutch"
	case "no", "nb", "nn":
		return "norwegian"
	case "pt":
		return "portuguese"
	case "ro":
		return "romanian"
	case "ru":
		return "russian"
	case "sr":
		return "serbian"
	case "sv":
		return "swedish"
	case "ta":
		return "tamil"
	case "tr":
		return "turkish"
	case "yi":
		return "yiddish"
	}
	return AnyLanguage
}

// How much of a text its language is guessed from, in bytes, and stop words are counted in.
const (
	sampleSize     = 4000
	stopSampleSize = 2000
)

// What it takes to read a text in another language than the tenant's default one.
const (
	minStopWords   = 3   // of that language
	stopWordsRatio = 1.5 // of them for each stop word of the default one
	minLetters     = 200 // where the language has no list of stop words
)

//go:embed sql/language.sql
var languageSQL string

// textLanguage returns the configuration that a document's words are read by, and whether that is evident: of the
// language that it states (BCP 47), or else of the one that its text is evidently in, or else the tenant's default one.
func textLanguage(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, said, text string) (language string, evident bool,
	err error) {
	code, _, _ := strings.Cut(strings.ToLower(said), "-")
	code, _, _ = strings.Cut(code, "_")
	if c := configuration(code); c != AnyLanguage {
		return c, true, nil
	}
	sample := strings.ToValidUTF8(text[:min(len(text), sampleSize)], "")
	info := whatlanggo.Detect(sample)
	guess := AnyLanguage
	if code == "" {
		guess = configuration(info.Lang.Iso6391())
	}
	if info.Script != nil && info.Script != unicode.Latin && info.Script != unicode.Cyrillic {
		return guess, guess != AnyLanguage, nil // the script says it
	}
	t, err := countStopWords(ctx, tx, tenant, languagesOf(info.Script), sample)
	if err != nil {
		return "", false, err
	}
	if t.fallback == "" {
		if t.fallback = English; info.Script == unicode.Cyrillic {
			t.fallback = guess
		}
	}
	_, listed := t.counts[guess]
	switch best := t.best(); {
	case info.IsReliable() && guess != AnyLanguage && (listed && t.speakFor(guess) ||
		!listed && utf8.RuneCountInString(sample) >= minLetters):
		return guess, true, nil
	case info.IsReliable() && guess == AnyLanguage && best != t.fallback:
		return t.fallback, false, nil // a language without a stemmer, or a list of names
	case t.speakFor(best):
		return best, true, nil
	}
	return t.fallback, false, nil
}

// stopWords are how many stop words of each language a text has.
type stopWords struct {
	fallback string // the tenant's default language
	counts   map[string]int
}

// countStopWords counts a text's in some languages; fallback is empty where the tenant has no default one of these.
func countStopWords(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, languages []string,
	text string) (t stopWords, err error) {
	var names []string
	var counts []int
	text = strings.ToValidUTF8(text[:min(len(text), stopSampleSize)], "")
	if err := tx.QueryRow(ctx, languageSQL, tenant, languages, text).Scan(&t.fallback, &names, &counts); err != nil {
		return t, fmt.Errorf("look up the tenant's default language: %w", err)
	}
	t.counts = map[string]int{}
	for i, name := range names {
		t.counts[name] = counts[i]
	}
	return t, nil
}

// best returns the language of which the text has most, the default one where several have as many.
func (t *stopWords) best() string {
	best := t.fallback
	for _, l := range Languages() {
		if t.counts[l] > t.counts[best] {
			best = l
		}
	}
	return best
}

// speakFor reports whether a text is in a language, by its stop words.
func (t *stopWords) speakFor(language string) bool {
	n := t.counts[language]
	return n >= minStopWords && (language == t.fallback || float64(n) >= stopWordsRatio*float64(t.counts[t.fallback]))
}

// languagesOf are those that are written in a script; in Latin for nil.
func languagesOf(script *unicode.RangeTable) []string {
	return slices.DeleteFunc(Languages(), func(l string) bool {
		switch l {
		case "arabic", "armenian", "greek", "hindi", "nepali", "tamil", "yiddish":
			return true
		case "serbian", AnyLanguage: // in both
			return false
		}
		return (l == "russian") != (script == unicode.Cyrillic)
	})
}

// DefaultLanguage returns the language that a tenant's texts are read in where they give no evidence of another: the
// one that was set, or else that of most of its documents that are evidently in one.
func DefaultLanguage(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (language string, err error) {
	t, err := countStopWords(ctx, tx, tenant, Languages(), "")
	if err != nil {
		return "", fmt.Errorf("kb: %w", err)
	}
	return cmp.Or(t.fallback, English), nil
}

// LanguageError says that texts are not read in a language of this name.
type LanguageError struct{ Language string }

func (e *LanguageError) Error() string {
	return fmt.Sprintf("kb: language %.40q: it is one of %s", e.Language, strings.Join(Languages(), ", "))
}

// SetDefaultLanguage sets a tenant's default language, by its name or code (german, de); empty has it follow the
// documents. It is used for what is ingested from then on. For another name it returns a LanguageError.
func SetDefaultLanguage(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, language string) error {
	if language == "" {
		_, err := tx.Exec(ctx, `DELETE FROM kb_settings WHERE tenant_id = $1`, tenant)
		return err
	}
	if c := configuration(language); c != AnyLanguage {
		language = c
	}
	if !slices.Contains(Languages(), language) {
		return &LanguageError{language}
	}
	_, err := tx.Exec(ctx, `INSERT INTO kb_settings (tenant_id, language) VALUES ($1, $2)
		ON CONFLICT (tenant_id) DO UPDATE SET language = EXCLUDED.language`, tenant, language)
	return err
}

// Languages are the names of the languages that texts are read in.
func Languages() []string {
	return strings.Fields("arabic armenian basque catalan danish dutch english finnish french german greek hindi " +
		"hungarian indonesian irish italian lithuanian nepali norwegian portuguese romanian russian serbian simple " +
		"spanish swedish tamil turkish yiddish")
}
