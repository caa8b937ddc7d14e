package access

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/konstruct/konstruct/tenantdb"
)

// claims are what an ID token says, as OpenID Connect Core 1.0, 2 and 3.1.3.7 want it. They are read by their exact
// names and types, which a decoder into a struct does not hold them to.
type claims struct {
	all     map[string]any
	subject string
	scopes  []Permission // of an access token, those that are permissions
}

// logoutEvent marks a token that ends a session, and must not begin one (OpenID Connect Back-Channel Logout 1.0, 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// readClaims reads and checks an ID token whose signature holds.
func (i *Issuer) readClaims(token string, payload []byte, now time.Time) (c claims, err error) {
	if c, err = i.readCommon(token, payload, now, "JWT"); err != nil {
		return c, err
	}
	return c, i.checkAudience(c.all)
}

// readResourceClaims reads and checks an ID token, or an access token for the resource, whose signature holds. Which
// client an access token was issued to (azp, client_id) does not matter: its aud says that it is for us.
func (i *Issuer) readResourceClaims(token string, payload []byte, now time.Time) (c claims, err error) {
	if c, err = i.readCommon(token, payload, now, "JWT", "at+jwt", "application/at+jwt"); err != nil {
		return c, err
	}
	audience, err := audienceOf(c.all)
	if err != nil {
		return c, err
	}
	if i.Resource == "" || !slices.Contains(audience, i.Resource) {
		if c, err = i.readCommon(token, payload, now, "JWT"); err != nil { // it is no ID token
			return c, err
		}
		return c, i.checkAudience(c.all)
	}
	scope, _ := c.all["scope"].(string)
	for name := range strings.FieldsSeq(scope) {
		if slices.Contains(Permissions, Permission(name)) {
			c.scopes = append(c.scopes, Permission(name))
		}
	}
	return c, nil
}

// readCommon reads a token of one of some kinds, and checks all but its audience.
func (i *Issuer) readCommon(token string, payload []byte, now time.Time, kinds ...string) (c claims, err error) {
	if err := i.checkHeader(token, kinds); err != nil {
		return c, err
	}
	if c.all, err = exactKeys(payload); err != nil {
		return c, err
	}
	if iss, _ := c.all["iss"].(string); iss != i.URL {
		return c, fmt.Errorf("its iss is %.200q", c.all["iss"])
	}
	if c.subject, _ = c.all["sub"].(string); c.subject == "" || len(c.subject) > maxSubject {
		return c, errors.New("its sub is missing, no text, or too long")
	}
	if events, _ := c.all["events"].(map[string]any); events[logoutEvent] != nil {
		return c, errors.New("it is a logout token")
	}
	return c, checkTimes(c.all, now)
}

// checkHeader refuses a token of another kind, that is signed with the same key. One that names no kind is a JWT.
func (*Issuer) checkHeader(token string, kinds []string) error {
	first, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	header, err := exactKeys(raw)
	if err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	kind, said := header["typ"]
	text, _ := kind.(string)
	if said && !slices.ContainsFunc(kinds, func(k string) bool { return strings.EqualFold(text, k) }) {
		return fmt.Errorf("its typ is %.100q: it is none of %s", kind, strings.Join(kinds, ", "))
	}
	return nil
}

// checkAudience holds aud and azp against the client: who else the token is for, its azp must say that it was made
// for us.
func (i *Issuer) checkAudience(all map[string]any) error {
	audience, err := audienceOf(all)
	if err != nil {
		return err
	}
	if !slices.Contains(audience, i.Audience) {
		return errors.New("its aud does not name this client")
	}
	party, said := all["azp"]
	text, _ := party.(string)
	switch {
	case said && text != i.Audience:
		return errors.New("its azp names another client")
	case !said && len(audience) > 1:
		return errors.New("it is for several, and no azp says that it was made for this client")
	}
	return nil
}

// audienceOf returns the values of aud.
func audienceOf(all map[string]any) (audience []string, err error) {
	switch aud := all["aud"].(type) {
	case string:
		audience = []string{aud}
	case []any:
		for _, one := range aud {
			text, is := one.(string)
			if !is {
				return nil, errors.New("its aud holds what is no text")
			}
			audience = append(audience, text)
		}
	}
	return audience, nil
}

// checkTimes holds exp, iat and nbf against the clock, with a tolerance on both sides.
func checkTimes(all map[string]any, now time.Time) error {
	expires, err := numericDate(all, "exp", true)
	if err != nil {
		return err
	}
	issued, err := numericDate(all, "iat", true)
	if err != nil {
		return err
	}
	notBefore, err := numericDate(all, "nbf", false)
	if err != nil {
		return err
	}
	if _, err := numericDate(all, "auth_time", false); err != nil {
		return err
	}
	switch {
	case !now.Before(expires.Add(skew)):
		return errors.New("the token has expired")
	case issued.After(now.Add(skew)) || notBefore.After(now.Add(skew)):
		return errors.New("the token is of the future")
	}
	return nil
}

// labels are what the token's holder is granted by its claim. What is no label is none, and none is every label unless
// the operator maps it so.
func (i *Issuer) labels(all map[string]any) (labels []string) {
	if i.LabelsClaim == "" {
		return nil
	}
	values, several := all[i.LabelsClaim].([]any)
	if !several {
		values = []any{all[i.LabelsClaim]}
	}
	for _, v := range values {
		text, _ := v.(string)
		if i.Labels != nil {
			labels = append(labels, i.Labels[text]...)
		} else if tenantdb.CheckLabel(text) == nil {
			labels = append(labels, text)
		}
	}
	return labels
}

// maxDate is the year 9999, in seconds.
const maxDate = 253402300799

// numericDate reads a time: a JSON number of seconds (RFC 7519, 2).
func numericDate(all map[string]any, name string, must bool) (time.Time, error) {
	value, said := all[name]
	if !said && !must {
		return time.Time{}, nil
	}
	number, is := value.(json.Number)
	seconds, err := number.Float64()
	if !is || err != nil || seconds < 0 || seconds > maxDate {
		return time.Time{}, fmt.Errorf("its %s is missing, or no number of seconds", name)
	}
	return time.UnixMicro(int64(seconds * 1e6)), nil
}

// exactKeys reads a JSON object whose names each stand there once.
func exactKeys(raw []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	all := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if _, twice := all[name]; twice {
			return nil, fmt.Errorf("%.100q stands twice in it", name)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all[name] = value
	}
	_, err := d.Token()
	return all, err
}
