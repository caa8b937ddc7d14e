package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"runtime/debug"
	"sort"
	"strings"

	"github.com/alecthomas/kong"
)

// settings are what flags, environment variables and the configuration file may set, in that order of
// strength; a flag --data-dir is KONSTRUCT_DATA_DIR in the other two.
type settings struct {
	ConfigFile            string `name:"config" help:"File of KONSTRUCT_…=value lines, as konstruct dev db prints them." env:"KONSTRUCT_CONFIG" placeholder:"FILE"`
	EnvFile               string `name:"env-file" help:"File of connection URLs that konstruct init writes, readable by you alone; konstruct.env where it is there." env:"KONSTRUCT_ENV_FILE" placeholder:"FILE"`
	DatabaseURL           string `help:"Connection URL of role konstruct_app: everything that serves." env:"KONSTRUCT_DATABASE_URL" placeholder:"URL"`
	OwnerDatabaseURL      string `help:"Of the schema's owner: migrations only." env:"KONSTRUCT_OWNER_DATABASE_URL" placeholder:"URL"`
	NotaryDatabaseURL     string `help:"Of konstruct_notary: the notary, audit verify, prove and evidence." env:"KONSTRUCT_NOTARY_DATABASE_URL" placeholder:"URL"`
	ComplianceDatabaseURL string `help:"Of konstruct_compliance: erasure, holds and retention." env:"KONSTRUCT_COMPLIANCE_DATABASE_URL" placeholder:"URL"`
	WorkerDatabaseURL     string `help:"Of konstruct_worker: kb work deals out turns as it." env:"KONSTRUCT_WORKER_DATABASE_URL" placeholder:"URL"`
	SuperuserDatabaseURL  string `help:"Of a superuser: init, migrate guard and bench only." env:"KONSTRUCT_SUPERUSER_DATABASE_URL" placeholder:"URL"`
	DataDir               string `help:"Folder for the private cluster." env:"KONSTRUCT_DATA_DIR" default:".data" placeholder:"DIR"`
	AssetsDir             string `help:"Folder that make setup fills: PostgreSQL, model, ONNX Runtime." env:"KONSTRUCT_ASSETS_DIR" default:"${parts}" placeholder:"DIR"`
	SpoolDir              string `help:"This process's own folder for events that wait on this machine, and for gaps." env:"KONSTRUCT_SPOOL_DIR" placeholder:"DIR"`
	SpoolLimit            string `help:"How much the spool may hold on disk, for example 512MiB." env:"KONSTRUCT_SPOOL_LIMIT" default:"1GiB" placeholder:"SIZE"`
	AuditPolicy           string `help:"File that says, per tenant, what is redacted and whether calls go on when the trail can't be written (docs/policy.md)." env:"KONSTRUCT_AUDIT_POLICY" placeholder:"FILE"`
	RedactKeyFile         string `help:"File with the secret that redacted values are hashed with; at least 32 bytes." env:"KONSTRUCT_REDACT_KEY_FILE" placeholder:"FILE"`
	NotaryName            string `help:"Name of the notary and of its logs, best below a domain of yours: example.com/audit. It is never changed." env:"KONSTRUCT_NOTARY_NAME" placeholder:"NAME"`
	NotaryKeyFile         string `help:"File with the notary's private key, made on first use; notary/key in the data folder." env:"KONSTRUCT_NOTARY_KEY_FILE" placeholder:"FILE"`
	NotaryKey             string `help:"The key itself." env:"KONSTRUCT_NOTARY_KEY" placeholder:"KEY"`
	NotaryAnchor          string `help:"Keeps the last signed checkpoint outside the database: a file, best on another machine, s3://BUCKET/OBJECT?endpoint=https://HOST, or witness:NAME of one that is listed; notary/checkpoint in the data folder." env:"KONSTRUCT_NOTARY_ANCHOR,KONSTRUCT_NOTARY_OUTSIDE" placeholder:"PLACE"`
	NotaryWitnesses       string `help:"File that lists witnesses: a key and a URL a line." env:"KONSTRUCT_NOTARY_WITNESSES" placeholder:"FILE"`
	NotaryTSA             string `help:"URL of a time-stamping authority (RFC 3161) for the super-log's checkpoints." env:"KONSTRUCT_NOTARY_TSA" placeholder:"URL"`
	NotaryTSARoots        string `help:"File of PEM certificates that the authority's must lead to." env:"KONSTRUCT_NOTARY_TSA_ROOTS" placeholder:"FILE"`
	RetentionFloor        int    `help:"For how many days every event is kept at least: a deletion below it is no lawful one, whatever the database says; 0 is none." env:"KONSTRUCT_RETENTION_FLOOR" default:"184" placeholder:"DAYS"`
	Listen                string `help:"Address that serve listens on." env:"KONSTRUCT_LISTEN" default:"127.0.0.1:7117" placeholder:"ADDR"`
	Hosts                 string `help:"Names of the service, as audit.example.com, beside localhost, addresses and that of --listen: what browsers ask without a key must come under one." env:"KONSTRUCT_HOSTS" placeholder:"NAMES"`
	MetricsListen         string `help:"Address at which serve and notary run show their figures, at /metrics; off for none." env:"KONSTRUCT_METRICS_LISTEN" default:"127.0.0.1:7118" placeholder:"ADDR"`
	RequestMemory         string `help:"What the bodies of all requests may take together in memory, for example 512MiB." env:"KONSTRUCT_REQUEST_MEMORY" default:"256MiB" placeholder:"SIZE"`
	DebugListen           string `help:"Loopback address at which serve shows its profiles; none where it is not set." env:"KONSTRUCT_DEBUG_LISTEN" placeholder:"ADDR"`
	TLSCert               string `help:"File of the service's certificate in PEM, read again when it changes." env:"KONSTRUCT_TLS_CERT" placeholder:"FILE"`
	TLSKey                string `help:"File of its private key." env:"KONSTRUCT_TLS_KEY" placeholder:"FILE"`
	TrustedProxies        string `help:"Networks of proxies whose X-Forwarded-For and -Proto are believed, as 10.1.0.0/16." env:"KONSTRUCT_TRUSTED_PROXIES" placeholder:"NETWORKS"`
	CORSOrigins           string `help:"Web sites whose pages may use the API, as https://app.example.com; none where it is not set." env:"KONSTRUCT_CORS_ORIGINS" placeholder:"ORIGINS"`
	KeySecretFile         string `help:"File with the secret that keys are hashed with, the same for every process, made on first use; access/secret in the data folder." env:"KONSTRUCT_KEY_SECRET_FILE" placeholder:"FILE"`
	OIDCIssuer            string `name:"oidc-issuer" help:"URL of the identity provider that people come from." env:"KONSTRUCT_OIDC_ISSUER" placeholder:"URL"`
	OIDCAudience          string `name:"oidc-audience" help:"The client's id, which its tokens must be for." env:"KONSTRUCT_OIDC_AUDIENCE" placeholder:"ID"`
	OIDCTenantClaim       string `name:"oidc-tenant-claim" help:"The claim of its tokens that names a person's tenant." env:"KONSTRUCT_OIDC_TENANT_CLAIM" placeholder:"CLAIM"`
	OIDCTenant            string `name:"oidc-tenant" help:"Instead: the tenant in which all its people are." env:"KONSTRUCT_OIDC_TENANT" placeholder:"UUID"`
	OIDCLabelsClaim       string `name:"oidc-labels-claim" help:"The claim of its tokens that says which documents' labels a person has, as groups." env:"KONSTRUCT_OIDC_LABELS_CLAIM" placeholder:"CLAIM"`
	OIDCLabels            string `name:"oidc-labels" help:"Which label a value of that claim stands for, as legal-team=legal,board=*; without, each value is a label." env:"KONSTRUCT_OIDC_LABELS" placeholder:"VALUE=LABEL"`
	EmbedURL              string `help:"Base URL of an OpenAI-compatible embeddings endpoint; empty is the local model." env:"KONSTRUCT_EMBED_URL" placeholder:"URL"`
	EmbedKey              string `help:"Its key." env:"KONSTRUCT_EMBED_KEY" placeholder:"KEY"`
	EmbedAlso             string `help:"Further endpoints that tenants may be switched to (kb reembed): MODEL DIMENSIONS URL, separated by commas; the key is the same." env:"KONSTRUCT_EMBED_ALSO" placeholder:"MODELS"`
	AllowNetworks         string `help:"Networks of yours whose pages may be ingested, as 10.1.0.0/16,fd00::/8; without, public addresses alone." env:"KONSTRUCT_ALLOW_NETWORKS" placeholder:"NETWORKS"`
	RerankURL             string `help:"Endpoint that puts passages in order (kb search --rerank): Cohere's or Jina's /v1/rerank or /v2/rerank, or text-embeddings-inference's /rerank." env:"KONSTRUCT_RERANK_URL" placeholder:"URL"`
	RerankKey             string `help:"Its key." env:"KONSTRUCT_RERANK_KEY" placeholder:"KEY"`
	RerankModel           string `help:"Its model." env:"KONSTRUCT_RERANK_MODEL" placeholder:"MODEL"`
	EmbedModel            string `help:"Its model, of 384 dimensions." env:"KONSTRUCT_EMBED_MODEL" placeholder:"MODEL"`
}

// otherVariables are environment variables that are read elsewhere, and so no mistake.
var otherVariables = map[string]bool{"KONSTRUCT_ONNXRUNTIME": true, "KONSTRUCT_TENANT": true, "KONSTRUCT_AGENT": true,
	"KONSTRUCT_SETUP_POSTGRES": true, "KONSTRUCT_KEY": true}

// variables are a setting's environment variables: its name, and names that it had before.
func variables(f reflect.StructField) []string { return strings.Split(f.Tag.Get("env"), ",") }

// configure reads the environment and the file, and has the parser fall back to the file.
func (a *app) configure(parser *kong.Kong, args []string) error {
	known := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[settings]()) {
		for _, env := range variables(f) {
			known[env] = true
		}
	}
	for _, kv := range os.Environ() {
		if key, _, _ := strings.Cut(kv, "="); strings.HasPrefix(key, "KONSTRUCT_") && !known[key] &&
			!otherVariables[key] {
			return fmt.Errorf("environment: %s is no setting: %s", key, nearest(key, known))
		}
	}
	path := namedFile(args, "--config", "KONSTRUCT_CONFIG")
	values := map[string]string{}
	if path != "" {
		var err error
		if values, err = readFile(path, known); err != nil {
			return err
		}
	}
	a.sources = map[string]string{}
	for key := range values {
		a.sources[key] = path
	}
	env, from, err := readEnvFile(args, path != "", known)
	a.envErr = err
	for key, value := range env {
		if _, ok := values[key]; !ok { // --config is stronger
			values[key], a.sources[key], a.envFile = value, from, from
		}
	}
	resolver := kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
		for _, env := range f.Envs {
			if _, set := os.LookupEnv(env); set {
				return nil, nil // the environment is stronger than the file
			}
			if v, ok := values[env]; ok {
				return v, nil
			}
		}
		return nil, nil
	})
	return kong.Resolvers(resolver).Apply(parser)
}

// maxConfig is how many bytes a configuration file may have.
const maxConfig = 1 << 20

func readFile(path string, known map[string]bool) (map[string]string, error) {
	raw, err := readSmallFile(path, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return parseSettings(path, raw, known)
}

// parseSettings reads KONSTRUCT_…=value lines.
func parseSettings(path string, raw []byte, known map[string]bool) (map[string]string, error) {
	values := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "export "))
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok {
			return nil, fmt.Errorf("configuration: %s:%d is no KONSTRUCT_…=value", path, n)
		}
		if !known[key] && !otherVariables[key] || key == "KONSTRUCT_CONFIG" || key == "KONSTRUCT_ENV_FILE" {
			return nil, fmt.Errorf("configuration: %s:%d: %s is no setting: %s", path, n, key, nearest(key, known))
		}
		values[key] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return values, lines.Err()
}

// nearest helps with a mistyped name.
func nearest(key string, known map[string]bool) string {
	var names []string
	for k := range known {
		names = append(names, k)
	}
	sort.Strings(names)
	best, score := "", 0
	for _, n := range names {
		same := 0
		for same < min(len(n), len(key)) && n[same] == key[same] {
			same++
		}
		for i := 1; i <= min(len(n), len(key)) && n[len(n)-i] == key[len(key)-i]; i++ {
			same++
		}
		if same > score {
			best, score = n, same
		}
	}
	return "did you mean " + best + "?"
}

// noteSources notes where each setting's value came from.
func (a *app) noteSources(k *kong.Context) {
	for _, p := range k.Path {
		if p.Flag != nil && !p.Resolved && len(p.Flag.Envs) > 0 {
			a.sources[p.Flag.Envs[0]] = "--" + p.Flag.Name
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[settings]()) {
		envs := variables(f)
		from := a.sources[envs[0]]
		for _, env := range envs {
			if _, set := os.LookupEnv(env); set && !strings.HasPrefix(from, "--") {
				from = "environment"
			} else if from == "" {
				from = a.sources[env]
			}
		}
		a.sources[envs[0]] = cmp.Or(from, "default")
	}
}

type configCmd struct{}

// Run prints each setting, secrets masked.
func (configCmd) Run(a *app) error {
	type line struct {
		Name  string `json:"name"`
		Value string `json:"value"`
		From  string `json:"from"`
	}
	var lines []line
	v := reflect.ValueOf(a.settings)
	for _, f := range reflect.VisibleFields(v.Type()) {
		value := v.FieldByIndex(f.Index).String()
		if value != "" && strings.HasSuffix(f.Name, "Key") && f.Name != "TLSKey" {
			value = "…"
		}
		lines = append(lines, line{variables(f)[0], mask(value), a.sources[variables(f)[0]]})
	}
	return printTable(a, lines, []string{"NAME", "VALUE", "FROM"}, func(l line) []string {
		return []string{l.Name, l.Value, l.From}
	})
}

// mask hides the password of a URL, also where it is given as a parameter or in a connection string.
func mask(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" {
		if i := strings.Index(strings.ToLower(value), "password"); i >= 0 {
			return value[:i] + "password=…"
		}
		return value
	}
	q := u.Query()
	for key := range q {
		if strings.Contains(strings.ToLower(key), "password") {
			q.Set(key, "…")
		}
	}
	u.RawQuery = q.Encode()
	return strings.Replace(u.Redacted(), "xxxxx", "…", 1)
}

// nextRelease is the version that a build from a checkout will become.
const nextRelease = "0.1.0"

// version is what the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "konstruct (unknown build)"
	}
	rev := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = " " + s.Value[:min(12, len(s.Value))] + rev
		case "vcs.modified":
			if s.Value == "true" {
				rev += " with changes"
			}
		}
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = nextRelease + "-dev"
	}
	return "konstruct " + v + rev + " " + info.GoVersion
}
