package gateway_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/internal/llmfake"
	"github.com/konstruct/konstruct/internal/testkit"
)

const upstream = `{"name":"openai","api":"openai","base_url":"https://api.openai.com/v1","key_file":"k"}`

// TestConfigurationsNameTheirMistake by its place.
func TestConfigurationsNameTheirMistake(t *testing.T) {
	for raw, want := range map[string]string{
		`{"upstreams":[` + upstream + `],"prices":{"gpt-5*":{"input":1.25,"output":10,"cache_read":0.125}},
			"connect_timeout":"5s","first_byte_timeout":"20m","idle_timeout":"1m"}`: "",
		`{"upstreams":[]}`: "upstreams: 0 of them", `{}`: "upstreams: 0 of them",
		`{"upstreams":[` + upstream + `,` + upstream + `]}`: `upstreams[1].name: "openai" occurs twice`,
		`{"upstream":[]}`:                    `unknown field "upstream"`,
		`{"upstreams":[` + upstream + `]} x`: "data after the JSON object",
		`{"upstreams":[{"name":"A","api":"openai","base_url":"https://a"}]}`:                   "upstreams[0].name",
		`{"upstreams":[{"name":"a","api":"google","base_url":"https://a"}]}`:                   "upstreams[0].api",
		`{"upstreams":[{"name":"a","api":"openai","base_url":"a.example/v1"}]}`:                "upstreams[0].base_url",
		`{"upstreams":[{"name":"a","api":"openai","base_url":"file:///etc/passwd"}]}`:          "upstreams[0].base_url",
		`{"upstreams":[{"name":"a","api":"openai","base_url":"https://u:p@a"}]}`:               "upstreams[0].base_url",
		`{"upstreams":[{"name":"a","api":"openai","base_url":"https://a","models":["*gpt"]}]}`: "[0].models[0]",
		`{"upstreams":[` + upstream + `],"prices":{"gpt":{"input":-1}}}`:                       "prices.gpt",
		`{"upstreams":[` + upstream + `],"idle_timeout":"soon"}`:                               "no duration",
	} {
		_, err := gateway.ParseConfig([]byte(raw))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
	for raw, want := range map[string]string{
		`{"default":{"models":{"allow":["gpt-*"],"tokens_per_day":5,"cost_per_day":0.5}}}`: "",
		`{"default":{"models":{"allow":["a*b"]}}}`:                                         "default.models.allow[0]",
		`{"default":{"models":{"tokens_per_day":-1}}}`:                                     "default.models: a budget",
		`{"default":{"models":{"allowed":[]}}}`:                                            "unknown field",
	} {
		_, err := audit.ParsePolicy([]byte(raw), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

// TestKeysOfUpstreamsAreReadAgain: a new key in the file is in force without a restart; one that is missing is named.
func TestKeysOfUpstreamsAreReadAgain(t *testing.T) {
	c := config(t, &llmfake.Upstream{URL: "http://127.0.0.1:1"})
	c.Upstreams[0].KeyFile = filepath.Join(t.TempDir(), "none")
	if _, err := gateway.New(c, nil, nil); err == nil || !strings.Contains(err.Error(), "upstream openai") {
		t.Errorf("%v", err)
	}
	c.Upstreams[0].KeyFile = keyFile(t, "two\nlines")
	if _, err := gateway.New(c, nil, nil); err == nil || !strings.Contains(err.Error(), "holds no key") ||
		strings.Contains(err.Error(), "lines") {
		t.Errorf("%v", err)
	}
	path := keyFile(t, "sk-old")
	w := start(t, settings{change: func(c *gateway.Config) { c.Upstreams[0].KeyFile = path }})
	if r := w.post(chatPath, operations()[0].body+"}"); r.StatusCode != 401 {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	if err := os.WriteFile(path, []byte(llmfake.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the new key is in force", func() bool {
		return w.post(chatPath, operations()[0].body+"}").StatusCode == 200
	})
}
