package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Values of error.type for what the gateway saw itself. What a vendor says of an error is recorded in its own words.
const (
	faultConnect      = "connect_failed"
	faultConnectTime  = "connect_timeout"
	faultFirstByte    = "first_byte_timeout"
	faultIdle         = "idle_timeout"
	faultClosed       = "upstream_closed"   // the connection broke
	faultIncomplete   = "incomplete_stream" // a stream ended without its last event
	faultClient       = "client_closed"     // the client did not wait for the response
	faultStopped      = "gateway_stopped"
	faultRedirect     = "upstream_redirect"
	faultInvalid      = "invalid_response" // no response of this API, as HTML
	faultUndecodable  = "undecodable_response"
	faultUnwritable   = "trail_unwritable"
	codeUpstreamError = "upstream_error"
)

var (
	errFirstByte = errors.New("the upstream's response did not begin in time")
	errIdle      = errors.New("the upstream sent nothing for too long")
)

// fault classifies why a call to an upstream failed, and returns what the caller is told.
func (x *exchange) fault(ctx context.Context, err error) (kind string, f *Refusal) {
	refuse := func(status int, format string, args ...any) *Refusal {
		return &Refusal{Status: status, Code: codeUpstreamError,
			Message: "Upstream " + x.up.Name + ": " + fmt.Sprintf(format, args...)}
	}
	cause := context.Cause(ctx)
	var timeout net.Error
	var dial *net.OpError
	switch {
	case x.r.Context().Err() != nil && x.call.Stopping != nil && x.call.Stopping.Err() != nil:
		return faultStopped, refuse(http.StatusServiceUnavailable, "this service stops.")
	case x.r.Context().Err() != nil || errors.Is(cause, errClient):
		return faultClient, refuse(499, "the client did not wait for the response.")
	case errors.Is(cause, errFirstByte):
		return faultFirstByte, refuse(http.StatusGatewayTimeout, "its response did not begin within %s.", x.g.firstByte)
	case errors.Is(cause, errIdle):
		return faultIdle, refuse(http.StatusGatewayTimeout, "it sent nothing for %s.", x.g.idle)
	case errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout():
		return faultConnectTime, refuse(http.StatusGatewayTimeout, "it could not be connected to in time.")
	case errors.As(err, &dial) && dial.Op == "dial":
		return faultConnect, refuse(http.StatusBadGateway, "it can't be connected to.")
	case errors.As(err, &timeout) && timeout.Timeout():
		return faultConnectTime, refuse(http.StatusGatewayTimeout, "it did not answer in time.")
	}
	return faultClosed, refuse(http.StatusBadGateway, "the connection broke before its response was complete.")
}

// errClient ends a call whose client can't be written to any more.
var errClient = errors.New("the client went away")

// watch cancels a call when nothing happens for too long.
type watch struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func newWatch(cancel context.CancelCauseFunc, d time.Duration, cause error) *watch {
	return &watch{time.AfterFunc(d, func() { cancel(cause) }), cancel}
}

// stop ends the watch.
func (w *watch) stop() { w.timer.Stop() }
