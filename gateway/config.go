package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// MaxConfig is how many bytes a configuration may have.
const MaxConfig = 1 << 20

// Limits on what a configuration may hold.
const (
	maxUpstreams = 100
	maxModels    = 1000 // of one upstream, and prices
)

// Config says where calls go. ParseConfig reads it from JSON.
type Config struct {
	Upstreams []Upstream `json:"upstreams"`
	// Prices are by model, or by the beginning of its name and an asterisk.
	Prices map[string]Price `json:"prices,omitempty"`
	// ConnectTimeout is how long a connection, with TLS, may take; default 10s.
	ConnectTimeout Duration `json:"connect_timeout,omitempty"`
	// FirstByteTimeout is how long an upstream may take until its response begins; default 10m, as vendors' clients.
	FirstByteTimeout Duration `json:"first_byte_timeout,omitempty"`
	// IdleTimeout is how long an upstream may send nothing within a response; default 5m.
	IdleTimeout Duration `json:"idle_timeout,omitempty"`
}

// Upstream is a service that speaks a vendor's API.
type Upstream struct {
	Name string `json:"name"`
	API  API    `json:"api"`
	// BaseURL is what the vendor's client takes: https://api.openai.com/v1, or https://api.anthropic.com.
	BaseURL string `json:"base_url"`
	// KeyFile is the file with the upstream's key. Empty: each caller sends its own.
	KeyFile string `json:"key_file,omitempty"`
	// Models are names, or beginnings of names and an asterisk. Empty: all models of the API.
	Models []string `json:"models,omitempty"`

	base *url.URL
}

// Price is the price of a million tokens of each kind, in the operator's currency.
type Price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
	// CacheRead and CacheWrite are of input tokens read from and written to the vendor's cache; nil is Input.
	CacheRead  *float64 `json:"cache_read,omitempty"`
	CacheWrite *float64 `json:"cache_write,omitempty"`
}

// Duration is a time.Duration in Go's syntax, as "90s".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < time.Millisecond || v > 24*time.Hour {
		return fmt.Errorf(`%.40q is no duration between "1ms" and "24h"`, s)
	}
	*d = Duration(v)
	return nil
}

// The defaults of Config's times.
const (
	defaultConnect   = 10 * time.Second
	defaultFirstByte = 10 * time.Minute
	defaultIdle      = 5 * time.Minute
)

var upstreamName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// ParseConfig parses a configuration. An error names the place in it.
func ParseConfig(raw []byte) (c Config, err error) {
	if len(raw) > MaxConfig {
		return c, fmt.Errorf("gateway: %d bytes long, the limit is %d", len(raw), MaxConfig)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("gateway: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("gateway: there is data after the JSON object")
	}
	return c, c.check()
}

// check checks the configuration, and completes it.
func (c *Config) check() error {
	if len(c.Upstreams) == 0 || len(c.Upstreams) > maxUpstreams {
		return fmt.Errorf("gateway: upstreams: %d of them, it needs 1 to %d", len(c.Upstreams), maxUpstreams)
	}
	names := map[string]bool{}
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		if err := u.check(); err != nil {
			return fmt.Errorf("gateway: upstreams[%d].%w", i, err)
		}
		if names[u.Name] {
			return fmt.Errorf("gateway: upstreams[%d].name: %q occurs twice", i, u.Name)
		}
		names[u.Name] = true
	}
	if len(c.Prices) > maxModels {
		return fmt.Errorf("gateway: prices: %d of them, the limit is %d", len(c.Prices), maxModels)
	}
	for model, p := range c.Prices {
		if err := checkPattern(model); err != nil {
			return fmt.Errorf("gateway: prices: %w", err)
		}
		for _, v := range []*float64{&p.Input, &p.Output, p.CacheRead, p.CacheWrite} {
			if v != nil && (*v < 0 || math.IsNaN(*v) || *v > 1e9) {
				return fmt.Errorf("gateway: prices.%s: %g is no price of a million tokens", model, *v)
			}
		}
	}
	for _, d := range []struct {
		at       *Duration
		fallback time.Duration
	}{{&c.ConnectTimeout, defaultConnect}, {&c.FirstByteTimeout, defaultFirstByte}, {&c.IdleTimeout, defaultIdle}} {
		if *d.at == 0 {
			*d.at = Duration(d.fallback)
		}
	}
	return nil
}

func (u *Upstream) check() (err error) {
	if !upstreamName.MatchString(u.Name) {
		return fmt.Errorf("name: %.40q is none: write it in small letters, as openai", u.Name)
	}
	if u.API != OpenAI && u.API != Anthropic {
		return fmt.Errorf(`api: %.40q is neither "openai" nor "anthropic"`, string(u.API))
	}
	u.base, err = url.Parse(u.BaseURL)
	if err != nil || u.base.Host == "" || u.base.Scheme != "http" && u.base.Scheme != "https" || u.base.User != nil ||
		u.base.RawQuery != "" || u.base.Fragment != "" {
		return fmt.Errorf("base_url: %.200q is no address: write it as https://api.openai.com/v1, without a key or ?",
			u.BaseURL)
	}
	u.base.Path = strings.TrimSuffix(u.base.Path, "/")
	if u.API == Anthropic && !strings.HasSuffix(u.base.Path, "/v1") { // as that vendor's clients complete it
		u.base.Path += "/v1"
	}
	u.base.RawPath = ""
	if len(u.Models) > maxModels {
		return fmt.Errorf("models: %d of them, the limit is %d", len(u.Models), maxModels)
	}
	for i, m := range u.Models {
		if err := checkPattern(m); err != nil {
			return fmt.Errorf("models[%d]: %w", i, err)
		}
	}
	return nil
}

// checkPattern checks a name of a model, or the beginning of one and an asterisk.
func checkPattern(s string) error {
	if s == "" || len(s) > maxName || strings.Contains(strings.TrimSuffix(s, "*"), "*") {
		return fmt.Errorf("%.60q is no model: write a name, or its beginning and one asterisk, as gpt-5*", s)
	}
	return nil
}
