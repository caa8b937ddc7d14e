package kb

import (
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

// AnyLanguage is the text search configuration that takes words as they are.
const AnyLanguage = "simple"

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

// sampleSize is how much of a text its language is guessed from.
const sampleSize = 4000

// What it takes to read a text in another language than the tenant's default one.
const (
	minStopWords   = 3   // of that language
	stopWordsRatio = 1.5 // of them for each stop word of the default one
	minLetters     = 200 // where the language has no list of stop words
)

//go:embed sql/language.sql
var languageSQL string

// textLanguage returns the configuration that a document's words are read by: of the language that it states (BCP 47),
// or else of the one that its text is evidently in, or else the tenant's default one.
func textLanguage(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, said, text string) (string, error) {
	code, _, _ := strings.Cut(strings.ToLower(said), "-")
	code, _, _ = strings.Cut(code, "_")
	if c := configuration(code); c != AnyLanguage {
		return c, nil
	}
	sample := strings.ToValidUTF8(text[:min(len(text), sampleSize)], "")
	info := whatlanggo.Detect(sample)
	guess := AnyLanguage
	if code == "" && info.IsReliable() {
		guess = configuration(info.Lang.Iso6391())
	}
	var fallback string
	var ofGuess, ofDefault int
	var listed bool
	row := tx.QueryRow(ctx, languageSQL, tenant, guess, sample)
	if err := row.Scan(&fallback, &ofGuess, &ofDefault, &listed); err != nil {
		return "", fmt.Errorf("look up the tenant's default language: %w", err)
	}
	switch {
	case !info.IsReliable() || guess == fallback:
		return fallback, nil
	case guess == AnyLanguage && info.Script == unicode.Latin:
		return fallback, nil // a language without a stemmer, or a list of names
	case guess == AnyLanguage || info.Script != unicode.Latin && info.Script != unicode.Cyrillic:
		return guess, nil // the script says it
	case !listed && utf8.RuneCountInString(sample) < minLetters:
		return fallback, nil
	case listed && (ofGuess < minStopWords || float64(ofGuess) < stopWordsRatio*float64(ofDefault)):
		return fallback, nil
	}
	return guess, nil
}

// DefaultLanguage returns the language that a tenant's texts are read in where they give no evidence of another: the
// one that was set, or else that of most of its documents.
func DefaultLanguage(ctx context.Context, tx pgx.Tx, tenant uuid.UUID) (language string, err error) {
	var n int
	var listed bool
	if err := tx.QueryRow(ctx, languageSQL, tenant, AnyLanguage, "").Scan(&language, &n, &n, &listed); err != nil {
		return "", fmt.Errorf("kb: look up the tenant's default language: %w", err)
	}
	return language, nil
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
