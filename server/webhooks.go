package server

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/webhook"
)

// WebhookCreated is a new webhook or one with a new secret, which is returned only here.
type WebhookCreated struct {
	Secret  string           `json:"secret" doc:"The signing secret (whsec_…). It is shown once"`
	Webhook webhook.Endpoint `json:"webhook"`
}

// WebhookDelivery is a delivery with its attempts.
type WebhookDelivery struct {
	webhook.Delivery
	Tries []webhook.Attempt `json:"tries" doc:"The last attempts, the last one first"`
}

// WebhookResent is how many messages were queued again.
type WebhookResent struct {
	Messages int `json:"messages" doc:"At most 10000: ask again for more"`
}

func (s *Server) webhooks() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Webhooks"},
			DefaultStatus: status}
	}
	register(s, op("listWebhooks", "GET", "/v1/webhooks", "List webhooks", 200), access.WebhooksRead,
		func(ctx context.Context, w access.Principal, in *ListParams) (*Response[List[webhook.Endpoint]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			all, err := s.tenant(w).Webhooks().List(ctx, after, in.Limit)
			return listPage(all, in.Limit, func(e webhook.Endpoint) string { return e.ID.String() }), err
		})
	register(s, op("createWebhook", "POST", "/v1/webhooks", "Create a webhook; its signing secret is shown once", 201),
		access.WebhooksWrite, func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				URL         string        `json:"url" minLength:"1" maxLength:"2000" doc:"An https URL"`
				Description string        `json:"description,omitempty" maxLength:"200"`
				Types       []webhookType `json:"types" minItems:"1" maxItems:"50" doc:"Of messages it gets; * is all"`
			}
		}) (*Created[WebhookCreated], error) {
			secret, made, err := s.tenant(w).Webhooks().Create(ctx, w, webhook.EndpointRequest{URL: in.Body.URL,
				Description: in.Body.Description, Types: stringsOf[webhook.Type](in.Body.Types)})
			return &Created[WebhookCreated]{Location: "/v1/webhooks/" + made.ID.String(),
				Body: WebhookCreated{secret, made}}, err
		})
	register(s, op("getWebhook", "GET", "/v1/webhooks/{id}", "Get a webhook", 200), access.WebhooksRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[webhook.Endpoint], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			found, err := s.tenant(w).Webhooks().Get(ctx, id)
			return &Response[webhook.Endpoint]{found}, err
		})
	s.updateWebhook(op("updateWebhook", "PATCH", "/v1/webhooks/{id}", "Change, enable or disable a webhook", 200))
	rotate := op("rotateWebhook", "POST", "/v1/webhooks/{id}/rotate", "Replace a webhook's signing secret", 201)
	register(s, rotate, access.WebhooksWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body struct {
			Overlap int `json:"overlap_seconds" minimum:"0" maximum:"2592000" doc:"How long the old secret signs too"`
		}
	}) (*Created[WebhookCreated], error) {
		id, err := in.uuid()
		if err != nil {
			return nil, err
		}
		secret, found, err := s.tenant(w).Webhooks().Rotate(ctx, w, id, time.Duration(in.Body.Overlap)*time.Second)
		return &Created[WebhookCreated]{Location: "/v1/webhooks/" + id.String(), Body: WebhookCreated{secret, found}},
			err
	})
	remove := op("deleteWebhook", "DELETE", "/v1/webhooks/{id}", "Delete a webhook and its deliveries", 204)
	register(s, remove, access.WebhooksWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*NoContent, error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			return nil, s.tenant(w).Webhooks().Delete(ctx, w, id)
		})
	test := op("createWebhookTest", "POST", "/v1/webhooks/{id}/test",
		"Send a message of type webhook.test to a webhook", 202)
	register(s, test, access.WebhooksWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*Created[webhook.Delivery], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			d, err := s.tenant(w).Webhooks().Test(ctx, w, id)
			return &Created[webhook.Delivery]{Location: deliveryPath(d), Body: d}, err
		})
	s.webhookDeliveries(op)
}

// updateWebhook registers the operation that changes what is given and leaves the rest.
func (s *Server) updateWebhook(op huma.Operation) {
	op.Description = "What is not given stays. To disable it makes its queued messages dead letters."
	register(s, op, access.WebhooksWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Body struct {
			URL         *string       `json:"url,omitempty" minLength:"1" maxLength:"2000"`
			Description *string       `json:"description,omitempty" maxLength:"200"`
			Types       []webhookType `json:"types,omitempty" minItems:"1" maxItems:"50"`
			Enabled     *bool         `json:"enabled,omitempty"`
		}
	}) (*Response[webhook.Endpoint], error) {
		id, err := in.uuid()
		if err != nil {
			return nil, err
		}
		u := webhook.EndpointUpdate{URL: in.Body.URL, Description: in.Body.Description, Enabled: in.Body.Enabled}
		if in.Body.Types != nil {
			u.Types = stringsOf[webhook.Type](in.Body.Types)
		}
		changed, err := s.tenant(w).Webhooks().Update(ctx, w, id, u)
		return &Response[webhook.Endpoint]{changed}, err
	})
}

func deliveryPath(d webhook.Delivery) string {
	return "/v1/webhooks/" + d.EndpointID.String() + "/deliveries/" + d.Message.String()
}

// pathMessage are the path parameters of a delivery.
type pathMessage struct {
	PathID
	Message string `path:"message" pattern:"^msg_[0-9a-f]{32}$" maxLength:"36" doc:"The webhook-id header"`
}

func (p pathMessage) message() (m webhook.MessageID, err error) {
	if err = m.UnmarshalText([]byte(p.Message)); err != nil {
		err = fieldProblem("path.message", err.Error())
	}
	return m, err
}

func (s *Server) webhookDeliveries(op func(id, method, path, summary string, status int) huma.Operation) {
	register(s, op("listWebhookDeliveries", "GET", "/v1/webhooks/{id}/deliveries",
		"List deliveries to a webhook, the newest message first", 200), access.WebhooksRead,
		func(ctx context.Context, w access.Principal, in *struct {
			PathID
			Page
			State string `query:"state" enum:"queued,running,delivered,dead"`
			After string `query:"after" maxLength:"36"`
		}) (*Response[List[webhook.Delivery]], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			f := webhook.DeliveryFilter{Endpoint: id, State: webhook.State(in.State), Limit: in.Limit}
			if in.After != "" {
				if err := f.After.UnmarshalText([]byte(in.After)); err != nil {
					return nil, fieldProblem("query.after", err.Error())
				}
			}
			all, err := s.tenant(w).Webhooks().Deliveries(ctx, f)
			return listPage(all, in.Limit, func(d webhook.Delivery) string { return d.Message.String() }), err
		})
	register(s, op("getWebhookDelivery", "GET", "/v1/webhooks/{id}/deliveries/{message}",
		"Get a delivery and its attempts", 200), access.WebhooksRead,
		func(ctx context.Context, w access.Principal, in *pathMessage) (*Response[WebhookDelivery], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			message, err := in.message()
			if err != nil {
				return nil, err
			}
			d, tries, err := s.tenant(w).Webhooks().Delivery(ctx, id, message)
			return &Response[WebhookDelivery]{WebhookDelivery{d, tries}}, err
		})
	register(s, op("retryWebhookDelivery", "POST", "/v1/webhooks/{id}/deliveries/{message}/resend",
		"Send a message again, with the id that it had", 202), access.WebhooksWrite,
		func(ctx context.Context, w access.Principal, in *pathMessage) (*Created[webhook.Delivery], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			message, err := in.message()
			if err != nil {
				return nil, err
			}
			d, err := s.tenant(w).Webhooks().Resend(ctx, w, id, message)
			return &Created[webhook.Delivery]{Location: deliveryPath(d), Body: d}, err
		})
	register(s, op("retryWebhookDeadLetters", "POST", "/v1/webhooks/{id}/resend",
		"Send dead letters since a time again", 202),
		access.WebhooksWrite, func(ctx context.Context, w access.Principal, in *struct {
			PathID
			Body struct {
				Since time.Time `json:"since" doc:"Of the messages; the oldest are sent first"`
			}
		}) (*Created[WebhookResent], error) {
			id, err := in.uuid()
			if err != nil {
				return nil, err
			}
			since, err := givenTime("body.since", &in.Body.Since)
			if err != nil {
				return nil, err
			}
			n, err := s.tenant(w).Webhooks().ResendDead(ctx, w, id, since)
			return &Created[WebhookResent]{Location: "/v1/webhooks/" + id.String() + "/deliveries",
				Body: WebhookResent{n}}, err
		})
}
