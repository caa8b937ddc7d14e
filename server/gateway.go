package server

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/gateway"
	"github.com/konstruct/konstruct/server/httpwire"
)

// Prefixes of the vendors' APIs, as their clients complete a base URL.
const (
	openAIPrefix    = "/openai/v1/"
	anthropicPrefix = "/anthropic/v1/"
)

const (
	maxPrompt = 32 << 20 // bytes of a call of a model
	// weightPrompt is the memory that a byte of it needs: read whole, its members copied, and decoded.
	weightPrompt = 3
)

// gatewayProtocols are those of the vendors' APIs. Clients read errors in their vendor's form only.
func (s *Server) gatewayProtocols() (all []protocol) {
	if s.c.Gateway == nil {
		return nil
	}
	for prefix, api := range map[string]gateway.API{openAIPrefix: gateway.OpenAI, anthropicPrefix: gateway.Anthropic} {
		all = append(all, protocol{prefix: prefix, credential: vendorCredential, streams: true, passes: true,
			bodySize: maxPrompt, bodyMemory: func(int64) int64 { return 0 }, // callModel reserves it, until it is sent
			refuse: func(w http.ResponseWriter, r *http.Request, p *Problem) { s.refuseAs(api, w, r, p) }})
	}
	return all
}

// vendorCredential returns the Konstruct key of a vendor's client: that of the gateway's own header, or the one in the
// place of the vendor's.
func vendorCredential(r *http.Request) (string, error) {
	own := r.Header.Values(gateway.KeyHeader)
	if len(own) == 1 && own[0] != "" && len(own[0]) <= httpwire.MaxHeader/4 {
		return own[0], nil
	}
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		bearer = ""
	}
	for _, credential := range []string{r.Header.Get("X-Api-Key"), bearer} {
		if strings.HasPrefix(credential, "kst_") || strings.Count(credential, ".") == 2 {
			return credential, nil
		}
	}
	return "", problem(http.StatusUnauthorized, "header.Authorization: there is no Konstruct key: send it (kst_…) "+
		"in the place of your provider's key, as Authorization: Bearer or x-api-key, or beside that key as %s",
		gateway.KeyHeader)
}

// refuseAs writes a problem in a vendor's form.
func (s *Server) refuseAs(api gateway.API, w http.ResponseWriter, r *http.Request, p *Problem) {
	code := map[int]string{http.StatusUnauthorized: "invalid_api_key", http.StatusForbidden: "permission_denied",
		http.StatusNotFound: "not_found", http.StatusRequestEntityTooLarge: "request_too_large",
		http.StatusTooManyRequests: "rate_limit_exceeded"}[p.Status]
	if code == "" {
		code = strings.ToLower(strings.ReplaceAll(http.StatusText(p.Status), " ", "_"))
	}
	f := gateway.Refusal{Status: p.Status, Code: code, Message: p.Detail}
	if err := f.Write(w, api); err != nil {
		s.logger.DebugContext(r.Context(), "a response could not be sent", "request", p.Instance, "error", err)
	}
}

// gatewayScope stands for the gateway among the instrumentations that report a call.
const gatewayScope = "konstruct gateway"

// gatewayRoutes registers the vendors' operations. They are the vendors' to describe, and so are not in the API's
// description.
func (s *Server) gatewayRoutes() {
	if s.c.Gateway == nil {
		return
	}
	for _, o := range []gateway.Operation{gateway.ChatCompletions, gateway.Responses, gateway.Embeddings} {
		s.mux.HandleFunc("POST "+openAIPrefix+string(o), s.callModel(o))
	}
	for _, o := range []gateway.Operation{gateway.Messages, gateway.CountTokens} {
		s.mux.HandleFunc("POST "+anthropicPrefix+string(o), s.callModel(o))
	}
	for prefix, api := range map[string]gateway.API{openAIPrefix: gateway.OpenAI, anthropicPrefix: gateway.Anthropic} {
		s.mux.HandleFunc("GET "+prefix+string(gateway.Models), func(w http.ResponseWriter, r *http.Request) {
			if p := s.mayCall(r, nil); p != nil {
				s.writeResponseProblem(w, r, p)
				return
			}
			s.c.Gateway.ServeModels(w, r, api)
		})
		s.mux.HandleFunc(prefix, s.notFound)
		s.refused[prefix] = true
	}
}

// mayCall returns the problem of a principal that may not call models, and sets the agent as which it calls.
func (s *Server) mayCall(r *http.Request, agent *uuid.UUID) *Problem {
	who := principalOf(r.Context())
	if !who.Can(access.GatewayUse) {
		return problem(http.StatusForbidden, "this credential does not have the permission %s", access.GatewayUse)
	}
	if agent == nil {
		return nil
	}
	const at = "header." + gateway.AgentHeader
	given, err := optionalID(at, r.Header.Get(gateway.AgentHeader))
	if err == nil {
		said := &given
		if given == uuid.Nil {
			said = nil
		}
		*agent, err = agentID(who, said, at)
	}
	if err != nil {
		return s.errorResponse(r.Context(), err)
	}
	return nil
}

// callModel handles a call of a model.
func (s *Server) callModel(o gateway.Operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		who := principalOf(ctx)
		call := gateway.Call{Operation: o, Caller: gateway.Caller{Tenant: who.Tenant, Bound: who.Agent},
			Stopping: s.stopping}
		if p := s.mayCall(r, &call.Caller.Agent); p != nil {
			s.writeResponseProblem(w, r, p)
			return
		}
		err := s.meter.SetCapacity(ctx, who, access.Events, 1, "events")
		var release func()
		if err == nil {
			n := r.ContentLength
			if n < 0 {
				n = maxPrompt
			}
			release, err = s.memory.reserve(ctx, who.Tenant, n*weightPrompt)
		}
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(ctx, err))
			return
		}
		call.Release = sync.OnceFunc(release)
		defer call.Release()
		if call.Body, err = readSized(r.Body, r.ContentLength); err != nil {
			s.writeResponseProblem(w, r, bodyProblem(err))
			return
		}
		// From here on a response takes as long as the vendor does; the gateway limits each write.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // ignore the error: then there is none
		s.c.Gateway.Serve(w, r, call)
	}
}
