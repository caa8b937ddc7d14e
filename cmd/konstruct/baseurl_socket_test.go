package main

import (
	"strings"
	"testing"
)

func TestTheFolderOfASocketMovesIntoTheParameters(t *testing.T) {
	for raw, want := range map[string]string{
		"postgres://%2Ftmp/konstruct":           "postgres:///konstruct?host=%2Ftmp",
		"postgres://u:p@%2Ftmp:5600/k?a=b":      "postgres://u:p@/k?host=%2Ftmp&port=5600&a=b",
		"postgresql://%2Fvar%2Frun%2Fp":         "postgresql:///?host=%2Fvar%2Frun%2Fp",
		"postgres://localhost/k?host=%2Ftmp":    "postgres://localhost/k?host=%2Ftmp",
		"host=/tmp dbname=konstruct":            "host=/tmp dbname=konstruct",
		"postgres://u:%2Fp@localhost/konstruct": "postgres://u:%2Fp@localhost/konstruct",
	} {
		if got := withSocket(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

func TestAWrongURLShowsNoPassword(t *testing.T) {
	for raw, says := range map[string]string{
		"postgres://a:p@SECRET@localhost/k":    "%40",
		"postgres://a:p@SEC/RET@localhost/k":   "%40",
		"mysql://a:SECRET@localhost/k":         "postgres://",
		"localhost:5432":                       "postgres://",
		"postgres://%2Ftmp%zz:SECRET@x:y/k":    "",
		"postgres://localhost:5432/konstruct":  "",
		"host=localhost password='SEC RET@@'":  "",
		"postgres://a:SECRET@localhost/k?x=@@": "",
	} {
		err := checkURL("KONSTRUCT_DATABASE_URL", raw)
		if (err == nil) != (says == "") || err != nil &&
			(!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "SECRET")) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, base := range []string{"postgres://%2Ftmp%zz/k", "postgres://a b/k"} { // which no parser takes
		if got := asRole(base, "konstruct_notary", "SECRET"); strings.Contains(got, "SECRET") {
			t.Errorf("%s becomes %s", base, got)
		}
	}
	const spaced = "postgres://localhost/k?options=-c%20statement_timeout%3D5000"
	if got := asRole(spaced, appRole, ""); !strings.Contains(got, "-c%20statement_timeout") {
		t.Errorf("a space became a plus: %s", got)
	}
}
