package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
)

// maxModelList is how many bytes of one upstream's list of models are read.
const maxModelList = 8 << 20

// ServeModels answers with the models of an API's upstreams: of one, its response as it is; of several, one list of the
// models that are routed to each. It is no call of a model, and logs nothing.
func (g *Gateway) ServeModels(w http.ResponseWriter, r *http.Request, api API) {
	refuse := func(f *Refusal) {
		if err := f.Write(w, api); err != nil {
			g.logger.DebugContext(r.Context(), "a response could not be sent", "error", err)
		}
	}
	all := g.serves(api)
	if len(all) == 0 {
		refuse(&Refusal{Status: http.StatusNotFound, Code: causeUpstream, Final: true,
			Message: "No upstream of this API is configured here."})
		return
	}
	lists := make([]modelList, len(all))
	var wait sync.WaitGroup
	for i, u := range all {
		wait.Go(func() { lists[i] = g.models(r, u) })
	}
	wait.Wait()
	if len(all) == 1 {
		l := lists[0]
		if l.err != nil {
			refuse(l.err)
			return
		}
		passHeaders(w.Header(), l.header)
		w.WriteHeader(l.status)
		_, _ = w.Write(l.body) // ignore the error: the client is gone
		return
	}
	merged := []json.RawMessage{}
	var failed *Refusal
	for i := range lists {
		models, err := lists[i].models()
		if err != nil {
			failed = err
			continue
		}
		for _, m := range models {
			if g.route(api, m.ID) == all[i] {
				merged = append(merged, m.raw)
			}
		}
	}
	if failed != nil && len(merged) == 0 {
		refuse(failed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	list := map[string]any{"object": "list", "data": merged}
	if api == Anthropic {
		list = map[string]any{"data": merged, "has_more": false, "first_id": nil, "last_id": nil}
	}
	_ = json.NewEncoder(w).Encode(list) // ignore the error: the client is gone
}

// modelList is an upstream's response to a request for its models.
type modelList struct {
	up     string
	status int
	header http.Header
	body   []byte
	err    *Refusal
}

type listedModel struct {
	ID  string
	raw json.RawMessage
}

// models asks an upstream for its models.
func (g *Gateway) models(r *http.Request, u *upstream) (l modelList) {
	l.up = u.Name
	fail := func(status int, message string) modelList {
		l.err = &Refusal{Status: status, Code: codeUpstreamError, Message: "Upstream " + u.Name + ": " + message}
		return l
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.idle)
	defer cancel()
	x := &exchange{g: g, r: r, up: u}
	h, err := x.requestHeaders()
	if own := (*Refusal)(nil); err != nil {
		if errors.As(err, &own) {
			l.err = own
			return l
		}
		return fail(http.StatusBadGateway, "its key can't be read.")
	}
	h.Set("Accept-Encoding", "identity")
	at := *u.base
	at.Path += "/" + string(Models)
	at.RawQuery = r.URL.RawQuery
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fail(http.StatusBadGateway, "its address is not valid.")
	}
	req.Header = h
	res, err := g.transport.RoundTrip(req)
	if err != nil {
		return fail(http.StatusBadGateway, "it can't be reached.")
	}
	defer res.Body.Close()
	l.body, err = io.ReadAll(io.LimitReader(res.Body, maxModelList+1))
	switch {
	case err != nil:
		return fail(http.StatusBadGateway, "the connection broke.")
	case len(l.body) > maxModelList:
		return fail(http.StatusBadGateway, "its list of models is too long.")
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return fail(http.StatusBadGateway, "it answers with a redirect, which is not followed.")
	}
	l.status, l.header = res.StatusCode, res.Header
	return l
}

// models reads the list.
func (l *modelList) models() (all []listedModel, err *Refusal) {
	if l.err != nil {
		return nil, l.err
	}
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	if l.status != http.StatusOK || json.Unmarshal(bytes.TrimSpace(l.body), &list) != nil {
		return nil, &Refusal{Status: http.StatusBadGateway, Code: codeUpstreamError,
			Message: "Upstream " + l.up + ": it did not list its models."}
	}
	for _, raw := range list.Data {
		var m struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(raw, &m) == nil && m.ID != "" {
			all = append(all, listedModel{m.ID, raw})
		}
	}
	return all, nil
}
