package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"crypto/tls"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Agent is the User-Agent header.
const Agent = "Konstruct-Webhooks"

// signPause is how long a message waits that this process can't sign. Another one may be configured rightly.
const signPause = time.Minute

// maxShown is how many bytes of a response are kept with an attempt.
const maxShown = 500

// payload is a message's body, in the form that Standard Webhooks recommends.
type payload struct {
	Type      Type            `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// claim is a delivery that this process sends.
type claim struct {
	tenant, endpoint uuid.UUID
	message          MessageID
	attempt, tries   int
	url              string
	payload
	sealed [][]byte // secrets, the newest first
}

// outcome is what became of an attempt.
type outcome struct {
	status     *int
	response   string // the first bytes
	err        string // "" where it was delivered
	gone       bool   // 410: the endpoint wants no more
	retryAfter time.Duration
	cut        bool // this process's fault: it stopped, or can't sign; it does not count as a try
}

// send makes one attempt.
func (e *Endpoints) send(ctx context.Context, c *claim) (o outcome) {
	body, err := json.Marshal(c.payload)
	if err != nil {
		return outcome{err: "the payload can't be encoded"}
	}
	if err := e.targets.check(c.url); err != nil { // the operator may allow less than when it was made
		return outcome{err: err.Error()}
	}
	within, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	r, err := http.NewRequestWithContext(within, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return outcome{err: "the URL can't be requested"}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", Agent)
	if err := e.sign(r.Header, c, body, time.Now()); err != nil {
		return outcome{err: err.Error(), cut: true, retryAfter: signPause}
	}
	answer, err := e.targets.http.Do(r)
	if err != nil {
		return outcome{err: failure(err), cut: ctx.Err() != nil}
	}
	defer answer.Body.Close()
	o.status, o.retryAfter = &answer.StatusCode, retryAfter(answer.Header, time.Now())
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxResponse))
	o.response = shown(raw)
	switch {
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		o.err, o.gone = statusError(answer), answer.StatusCode == http.StatusGone
	case err != nil: // whoever breaks off may not have got it
		o.err, o.cut = "it broke off its response: "+failure(err), ctx.Err() != nil
	}
	return o
}

// sign sets the headers of Standard Webhooks: a signature by each secret that holds, the newest first.
func (e *Endpoints) sign(h http.Header, c *claim, body []byte, now time.Time) error {
	var signatures []string
	for _, sealed := range c.sealed {
		secret, err := e.sealer.open(c.tenant, c.endpoint, sealed)
		if err != nil {
			return err
		}
		s, err := signer(secret)
		if err != nil {
			return err
		}
		signature, err := s.Sign(c.message.String(), now, body)
		if err != nil {
			return err
		}
		signatures = append(signatures, signature)
	}
	if len(signatures) == 0 {
		return errSealed
	}
	h.Set(standardwebhooks.HeaderWebhookID, c.message.String())
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}

func statusError(r *http.Response) string {
	text := fmt.Sprintf("it answered %d %s", r.StatusCode, http.StatusText(r.StatusCode))
	if r.StatusCode >= 300 && r.StatusCode < 400 {
		text += ": redirects are not followed, give the URL that it leads to"
	}
	return text
}

// failure says why no response came, without what a private network would reveal.
func failure(err error) string {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.Is(err, errPrivate), errors.As(err, &dns): // however a name server refuses
		return errPrivate.Error()
	case errors.Is(err, context.Canceled):
		return "the service stopped while it was sent"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return fmt.Sprintf("no whole response within %s", attemptTime)
	case errors.As(err, &certificate):
		return "its certificate is not valid: " + oneLine(certificate.Err.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection"
	}
	return "it can't be reached: no connection, or no HTTP response"
}

// shown are the first bytes of a response as text that PostgreSQL can hold.
func shown(raw []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(raw[:min(len(raw), maxShown)]), "�"), "\x00", "�")
}

// oneLine is the beginning of an error of a library.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return shown([]byte(s[:min(len(s), 200)]))
}
