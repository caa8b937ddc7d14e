package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
)

// TestSettingsKeepTheirVariables: a variable follows from its flag, and people have them in files: a flag that is
// renamed would take a variable away.
func TestSettingsKeepTheirVariables(t *testing.T) {
	a := &app{cli: &cli{}}
	if _, err := a.newParser(context.Background(), false, func(int) {}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range a.settingFlags {
		for _, env := range f.Envs {
			got = append(got, strings.TrimPrefix(env, "KONSTRUCT_"))
		}
	}
	slices.Sort(got)
	want := strings.Fields(`ALLOW_NETWORKS ASSETS_DIR AUDIT_POLICY COMPLIANCE_DATABASE_URL CONFIG CORS_ORIGINS
		DATABASE_URL DATA_DIR DEBUG_LISTEN EMBED_ALSO EMBED_KEY EMBED_MODEL EMBED_URL ENV_FILE HOSTS KEY_SECRET_FILE
		LISTEN METRICS_LISTEN NOTARY_ANCHOR NOTARY_DATABASE_URL NOTARY_KEY NOTARY_KEY_FILE NOTARY_NAME
		NOTARY_OUTSIDE NOTARY_TSA NOTARY_TSA_ROOTS NOTARY_WITNESSES OIDC_AUDIENCE OIDC_ISSUER OIDC_LABELS
		OIDC_LABELS_CLAIM OIDC_TENANT OIDC_TENANT_CLAIM OWNER_DATABASE_URL REDACT_KEY_FILE REQUEST_MEMORY
		RERANK_KEY RERANK_MODEL RERANK_URL RETENTION_FLOOR SPOOL_DIR SPOOL_LIMIT SUPERUSER_DATABASE_URL TLS_CERT
		TLS_KEY TRUSTED_PROXIES WORKER_DATABASE_URL APP_PASSWORD OWNER_PASSWORD NOTARY_PASSWORD COMPLIANCE_PASSWORD
		WORKER_PASSWORD`)
	slices.Sort(want)
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("KONSTRUCT_%s is read no more", name)
		}
	}
}

func TestAFormerVariableIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("KONSTRUCT_NOTARY_OUTSIDE", "/srv/checkpoint")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"config"}, &out, &errs)
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	if code != 0 || !slices.Contains(lines, "KONSTRUCT_NOTARY_ANCHOR /srv/checkpoint environment") ||
		!slices.Contains(lines, "KONSTRUCT_RETENTION_FLOOR 184 default") {
		t.Errorf("%d: %s%s", code, &out, &errs)
	}
}
