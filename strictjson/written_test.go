package strictjson

import (
	"strings"
	"testing"
)

// TestNumbersThatGrowAreBounded holds what PostgreSQL would write out.
func TestNumbersThatGrowAreBounded(t *testing.T) {
	list := func(n int, number string) string {
		return `{"x": [` + strings.TrimSuffix(strings.Repeat(number+",", n), ",") + `]}`
	}
	for _, c := range []struct {
		raw     string
		refused bool
	}{{list(100, "1e308"), false}, {list(10_000, "1e308"), true}, {list(3, "1e131071"), true},
		{list(10_000, "-1.5e-300"), true}, {list(1, "1e131071"), false}, {list(100_000, "1234567"), false},
		{list(100_000, "1e2"), false}, {list(100_000, "0.000001"), false}, {list(30, "1e-16000"), true}} {
		at, what := CheckStorable([]byte(c.raw))
		if refused := what != ""; refused != c.refused {
			t.Errorf("%.40s…: refused %v: %s", c.raw, refused, what)
		}
		if c.refused && (!strings.HasPrefix(at, ".x[") || !strings.Contains(what, "send them as text")) {
			t.Errorf("%.40s…: %s %s", c.raw, at, what)
		}
	}
}

func TestMarshalLeavesTextsAsTheyAre(t *testing.T) {
	const want = `{"a":"<p>&amp;</p>"}`
	if raw, err := Marshal(map[string]string{"a": "<p>&amp;</p>"}); err != nil || string(raw) != want {
		t.Errorf("%s, %v", raw, err)
	}
}
