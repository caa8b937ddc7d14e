package kb

import (
	"strings"

	"github.com/abadojack/whatlanggo"
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

// languageConfiguration is the configuration that a document's words are read by: of the language that it says it is in
// (BCP 47), or else of the one that its text seems to be in.
func languageConfiguration(said, text string) string {
	code, _, _ := strings.Cut(strings.ToLower(said), "-")
	code, _, _ = strings.Cut(code, "_")
	if c := configuration(code); c != AnyLanguage {
		return c
	}
	if guess := whatlanggo.Detect(strings.ToValidUTF8(text[:min(len(text), sampleSize)], "")); code == "" &&
		guess.IsReliable() {
		return configuration(guess.Lang.Iso6391())
	}
	return AnyLanguage
}
