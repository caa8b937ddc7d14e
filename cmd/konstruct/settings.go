package main

import (
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// settings are what flags, environment variables and the configuration file may set, in that order of strength. A
// setting's variable follows from its flag: --data-dir is KONSTRUCT_DATA_DIR. docs/cli.md says more of each.
type settings struct {
	fileSettings     `group:"Files and folders:"`
	databaseSettings `group:"Database:"`
	trailSettings    `group:"Audit trail:"`
	notarySettings   `group:"Notary:"`
	serverSettings   `group:"HTTP service:"`
	oidcSettings     `group:"Identity provider:"`
	modelSettings    `group:"Models:"`
}

type fileSettings struct {
	ConfigFile string `name:"config" help:"File of KONSTRUCT_ lines, as dev db prints them." placeholder:"FILE"`

	EnvFile string `help:"Private file of settings that init writes; konstruct.env by default." placeholder:"FILE"`

	DataDir string `help:"Folder of the private database, keys and secrets." default:".data" placeholder:"DIR"`

	AssetsDir string `help:"Folder that make setup fills: PostgreSQL, model." default:"${parts}" placeholder:"DIR"`
}

// databaseSettings are one URL and the roles' passwords, or a URL for each role.
type databaseSettings struct {
	DatabaseURL string `help:"Connection URL; without a user it is the base of every role's." placeholder:"URL"`

	AppPassword        string `help:"Password of konstruct_app: everything that serves." placeholder:"PASSWORD"`
	OwnerPassword      string `help:"Of konstruct_owner, where its URL is not set." placeholder:"PASSWORD"`
	NotaryPassword     string `help:"Of konstruct_notary, where its URL is not set." placeholder:"PASSWORD"`
	CompliancePassword string `help:"Of konstruct_compliance, where its URL is not set." placeholder:"PASSWORD"`
	WorkerPassword     string `help:"Of konstruct_worker, where its URL is not set." placeholder:"PASSWORD"`

	OwnerDatabaseURL      string `help:"URL of the schema's owner: migrations, tenants' indexes." placeholder:"URL"`
	NotaryDatabaseURL     string `help:"Of konstruct_notary: notary, audit verify, evidence." placeholder:"URL"`
	ComplianceDatabaseURL string `help:"Of konstruct_compliance: erasure, holds, retention." placeholder:"URL"`
	WorkerDatabaseURL     string `help:"Of konstruct_worker: kb work shares out jobs as it." placeholder:"URL"`
	SuperuserDatabaseURL  string `help:"Of a superuser: init, migrate guard and bench only." placeholder:"URL"`
}

type trailSettings struct {
	SpoolDir   string `help:"This process's own folder for events that wait, and for gaps." placeholder:"DIR"`
	SpoolLimit string `help:"How much the spool may hold, as 512MiB." default:"1GiB" placeholder:"SIZE"`

	AuditPolicy   string `help:"File of policies per tenant: redaction, outages (docs/policy.md)." placeholder:"FILE"`
	RedactKeyFile string `help:"File of the secret, 32 bytes or more, that marks are hashed with." placeholder:"FILE"`

	RetentionFloor int `help:"Days that every event is kept at least; 0 is none." default:"184" placeholder:"DAYS"`
}

// notarySettings are the notary's. Its anchor was once KONSTRUCT_NOTARY_OUTSIDE, which is still read.
type notarySettings struct {
	NotaryName string `help:"Name of the notary and its logs, as example.com/audit; kept for good." placeholder:"NAME"`

	NotaryKeyFile string `help:"File of its private key, created on first use." placeholder:"FILE"`
	NotaryKey     string `help:"Its private key itself." placeholder:"KEY"`

	NotaryAnchor string `help:"Where the last checkpoint is kept: file, s3: URL, witness:NAME." placeholder:"PLACE"`

	NotaryWitnesses string `help:"File that lists witnesses: a key and a URL a line." placeholder:"FILE"`
	NotaryTSA       string `help:"URL of a time-stamping authority (RFC 3161)." placeholder:"URL"`
	NotaryTSARoots  string `help:"File of PEM certificates that the authority's must lead to." placeholder:"FILE"`
}

type serverSettings struct {
	Listen         string `help:"Address that serve listens on." default:"127.0.0.1:7117" placeholder:"ADDR"`
	Hosts          string `help:"Names of the service that browsers may use, as audit.example.com." placeholder:"NAMES"`
	MetricsListen  string `help:"Address of /metrics, or off." default:"127.0.0.1:7118" placeholder:"ADDR"`
	OTLPGRPCListen string `name:"otlp-grpc-listen" help:"Address of OTLP over gRPC." placeholder:"ADDR"`
	DebugListen    string `help:"Loopback address of serve's profiles; none by default." placeholder:"ADDR"`

	GatewayFile string `help:"File of language models' upstreams and prices (docs/gateway.md)." placeholder:"FILE"`

	MCPServersFile string `name:"mcp-servers-file" aliases:"mcp-servers" help:"File of MCP servers." placeholder:"FILE"`

	RequestMemory string `help:"Limit of all request bodies in memory." default:"256MiB" placeholder:"SIZE"`

	TLSCert        string `help:"File of the service's certificate in PEM, reloaded on change." placeholder:"FILE"`
	TLSKey         string `help:"File of its private key." placeholder:"FILE"`
	TrustedProxies string `help:"Networks of proxies whose X-Forwarded-For counts." placeholder:"NETWORKS"`
	CORSOrigins    string `help:"Web sites whose pages may use the API; none by default." placeholder:"ORIGINS"`
	KeySecretFile  string `help:"File of the secret of keys' hashes and webhooks' secrets." placeholder:"FILE"`

	WebhookNetworks string `help:"Private networks that webhooks may be sent to." placeholder:"NETWORKS"`
}

type oidcSettings struct {
	OIDCIssuer   string `name:"oidc-issuer" help:"URL of the identity provider." placeholder:"URL"`
	OIDCAudience string `name:"oidc-audience" help:"Client id that its tokens must be for." placeholder:"ID"`

	OIDCResource string `name:"oidc-resource" help:"URL of /mcp that access tokens are for." placeholder:"URL"`

	OIDCTenantClaim string `name:"oidc-tenant-claim" help:"Claim that names a user's tenant." placeholder:"CLAIM"`
	OIDCTenant      string `name:"oidc-tenant" help:"Instead: the tenant of all its users." placeholder:"UUID"`

	OIDCLabelsClaim string `name:"oidc-labels-claim" help:"Claim that grants labels, as groups." placeholder:"CLAIM"`

	OIDCLabels string `name:"oidc-labels" help:"Which label a value of it grants." placeholder:"VALUE=LABEL"`
}

type modelSettings struct {
	EmbedURL   string `help:"URL of an OpenAI-compatible embeddings endpoint; empty: local model." placeholder:"URL"`
	EmbedKey   string `help:"Its key." placeholder:"KEY"`
	EmbedModel string `help:"Its model, of 384 dimensions." placeholder:"MODEL"`
	EmbedAlso  string `help:"Further endpoints, as MODEL DIMENSIONS URL, by commas." placeholder:"MODELS"`

	RerankURL   string `help:"URL of a reranking endpoint: Cohere, Jina or TEI (search --rerank)." placeholder:"URL"`
	RerankKey   string `help:"Its key." placeholder:"KEY"`
	RerankModel string `help:"Its model." placeholder:"MODEL"`

	AllowNetworks string `help:"Private networks whose pages may be ingested, as 10.1.0.0/16." placeholder:"NETWORKS"`
}

// formerVariables are names that a setting's variable had before. They are still read, after today's.
func formerVariables() map[string]string {
	return map[string]string{"KONSTRUCT_NOTARY_ANCHOR": "KONSTRUCT_NOTARY_OUTSIDE"}
}

// nameVariables gives the flags of settings their environment variables, and keeps these flags in the settings' order.
func (a *app) nameVariables(k *kong.Kong) error {
	fields := map[any]bool{}
	v := reflect.ValueOf(&a.settings).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		if !f.Anonymous {
			fields[v.FieldByIndex(f.Index).Addr().Interface()] = true
		}
	}
	former := formerVariables()
	a.settingFlags = nil
	for _, flag := range k.Model.Flags {
		if !flag.Target.CanAddr() || !fields[flag.Target.Addr().Interface()] {
			continue
		}
		name := "KONSTRUCT_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		flag.Envs = []string{name}
		if old := former[name]; old != "" {
			flag.Envs = append(flag.Envs, old)
		}
		flag.Tag.Envs = flag.Envs
		a.settingFlags = append(a.settingFlags, flag)
	}
	return nil
}
