package evidence

import (
	"strings"
	"testing"
)

// TestAManifestThatIsNotValidNamesTheField in no words of Go.
func TestAManifestThatIsNotValidNamesTheField(t *testing.T) {
	for raw, want := range map[string]string{
		`{"timestamp":"x"}`:    "manifest.json: the manifest is not valid: timestamp",
		`{"version":1}`:        "manifest.json: the manifest is not valid: version",
		`{`:                    "manifest.json: the manifest is not JSON",
		`{"nothing":1}`:        `manifest.json: the manifest is not valid: unknown field "nothing"`,
		`{"version":"x"} more`: "manifest.json: something stands behind it",
	} {
		if _, err := readManifest([]byte(raw)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}
