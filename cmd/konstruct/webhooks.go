package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/plural"
	"github.com/konstruct/konstruct/webhook"
)

type webhooksCmd struct {
	Create     webhooksCreateCmd     `cmd:"" help:"Make a webhook, and print its signing secret: it is shown once."`
	List       webhooksListCmd       `cmd:"" help:"List webhooks."`
	Get        webhooksGetCmd        `cmd:"" help:"Show a webhook."`
	Update     webhooksUpdateCmd     `cmd:"" help:"Change a webhook, enable it or disable it."`
	Rotate     webhooksRotateCmd     `cmd:"" help:"Make a new signing secret in the old one's place."`
	Delete     webhooksDeleteCmd     `cmd:"" help:"Delete a webhook and its deliveries."`
	Test       webhooksTestCmd       `cmd:"" help:"Send a test message to a webhook."`
	Deliveries webhooksDeliveriesCmd `cmd:"" help:"List what was sent to a webhook, and each attempt."`
	Resend     webhooksResendCmd     `cmd:"" help:"Send a message, or dead letters since a time, again."`
}

// webhookTypes are what --type may be, for help.
var webhookTypes = webhook.JoinTypes(webhook.Types, ", ")

// tenantWebhooks opens the webhooks of a tenant, and returns who changes them.
func (a *app) tenantWebhooks(ctx context.Context,
	tenant uuid.UUID) (all konstruct.Webhooks, by access.Principal, done func(), err error) {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return all, by, nil, err
	}
	return k.Tenant(tenant).Webhooks(), access.LocalOperator(tenant, operatorName()), done, nil
}

type webhooksCreateCmd struct {
	tenantFlag
	URL         string         `arg:"" help:"Where messages are sent: https://HOST/…"`
	Type        []webhook.Type `help:"A type of message it gets; '*' is every. Can be repeated." placeholder:"TYPE"`
	Description string         `help:"What it is for." placeholder:"TEXT"`
}

// Help is shown by --help.
func (webhooksCreateCmd) Help() string {
	return "Types: " + webhookTypes + ".\n\nEach message is signed as https://www.standardwebhooks.com specifies " +
		"(docs/webhooks.md). Private addresses are refused, except those of KONSTRUCT_WEBHOOK_NETWORKS.\n\n" +
		"Examples:\n\n  konstruct webhooks create https://example.com/hook --tenant $T --type escalation.opened " +
		"--type escalation.due\n  konstruct webhooks create https://example.com/all --tenant $T --type '*'"
}

// Run makes it.
func (r webhooksCreateCmd) Run(ctx context.Context, a *app) error {
	all, by, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	secret, made, err := all.Create(ctx, by,
		webhook.EndpointRequest{URL: r.URL, Description: r.Description, Types: r.Type})
	if err != nil {
		return err
	}
	return a.printWebhookSecret(secret, made)
}

// printWebhookSecret prints a secret that is shown once.
func (a *app) printWebhookSecret(secret string, e webhook.Endpoint) error {
	if a.JSON {
		return a.json(map[string]any{"secret": secret, "webhook": e})
	}
	fmt.Fprintf(a.err, "konstruct: the signing secret is shown once; the webhook's id is %s\n", e.ID)
	_, err := fmt.Fprintln(a.out, secret)
	return err
}

type webhooksListCmd struct {
	tenantFlag
	Limit int       `help:"How many at most, up to 1000." default:"50"`
	After uuid.UUID `help:"Continue after this one." placeholder:"UUID"`
}

// Run lists them.
func (r webhooksListCmd) Run(ctx context.Context, a *app) error {
	all, _, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	found, err := all.List(ctx, r.After, r.Limit)
	if err != nil {
		return err
	}
	if found == nil {
		found = []webhook.Endpoint{}
	}
	return a.printWebhooks(found)
}

func (a *app) printWebhooks(all []webhook.Endpoint) error {
	return printTable(a, all, []string{"WEBHOOK", "URL", "TYPES", "STATE", "DESCRIPTION"},
		func(e webhook.Endpoint) []string {
			state := "enabled"
			switch {
			case !e.Enabled:
				state = "disabled: " + e.DisabledReason
			case e.FailingSince != nil:
				state = "failing since " + e.FailingSince.UTC().Format(tableTime)
			}
			return []string{e.ID.String(), oneLine(e.URL, 60), oneLine(webhook.JoinTypes(e.Types, ","), 60),
				oneLine(state, 60), oneLine(e.Description, 30)}
		})
}

type webhooksGetCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The webhook's id."`
}

// Run shows it.
func (r webhooksGetCmd) Run(ctx context.Context, a *app) error {
	all, _, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	found, err := all.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	return a.printWebhook(found)
}

// printWebhook prints one: as an object in JSON, and not as a list of one.
func (a *app) printWebhook(e webhook.Endpoint) error {
	if a.JSON {
		return a.json(e)
	}
	return a.printWebhooks([]webhook.Endpoint{e})
}

type webhooksUpdateCmd struct {
	tenantFlag
	ID          uuid.UUID      `arg:"" help:"The webhook's id."`
	URL         *string        `help:"Where messages are sent from now on." placeholder:"URL"`
	Type        []webhook.Type `help:"Types instead of those that it had. Can be repeated." placeholder:"TYPE"`
	Description *string        `help:"What it is for." placeholder:"TEXT"`
	Enable      bool           `help:"Send again to one that was disabled." xor:"enabled"`
	Disable     bool           `help:"Send nothing; what is queued becomes dead letters." xor:"enabled"`
}

// Help is shown by --help.
func (webhooksUpdateCmd) Help() string {
	return "What is not given stays. Types: " + webhookTypes + ".\n\nExamples:\n\n" +
		"  konstruct webhooks update $ID --tenant $T --url https://example.com/new\n" +
		"  konstruct webhooks update $ID --tenant $T --enable"
}

// Run changes it.
func (r webhooksUpdateCmd) Run(ctx context.Context, a *app) error {
	all, by, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	u := webhook.EndpointUpdate{URL: r.URL, Types: r.Type, Description: r.Description}
	if r.Enable || r.Disable {
		u.Enabled = &r.Enable
	}
	changed, err := all.Update(ctx, by, r.ID, u)
	if err != nil {
		return err
	}
	return a.printWebhook(changed)
}

type webhooksRotateCmd struct {
	tenantFlag
	ID      uuid.UUID     `arg:"" help:"The webhook's id."`
	Overlap time.Duration `help:"How long messages are signed with the old one too." default:"24h"`
}

// Run rotates it.
func (r webhooksRotateCmd) Run(ctx context.Context, a *app) error {
	all, by, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	secret, found, err := all.Rotate(ctx, by, r.ID, r.Overlap)
	if err != nil {
		return err
	}
	return a.printWebhookSecret(secret, found)
}

type webhooksDeleteCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The webhook's id."`
}

// Run deletes it.
func (r webhooksDeleteCmd) Run(ctx context.Context, a *app) error {
	all, by, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	if err := all.Delete(ctx, by, r.ID); err != nil {
		return err
	}
	return a.result(map[string]any{"deleted": r.ID}, "deleted %s\n", r.ID)
}

type webhooksTestCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The webhook's id."`
}

// Run queues the message.
func (r webhooksTestCmd) Run(ctx context.Context, a *app) error {
	all, by, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	d, err := all.Test(ctx, by, r.ID)
	if err != nil {
		return err
	}
	return a.result(d, "%s is queued: konstruct webhooks deliveries %s --message %s\n", d.Message, r.ID, d.Message)
}

type webhooksDeliveriesCmd struct {
	tenantFlag
	ID      uuid.UUID         `arg:"" help:"The webhook's id."`
	Message webhook.MessageID `help:"Show the attempts of this one (msg_…)." placeholder:"ID"`
	State   webhook.State     `help:"Only queued, running, delivered or dead ones." placeholder:"STATE"`
	Limit   int               `help:"How many at most, up to 1000." default:"50"`
	After   webhook.MessageID `help:"Continue after this one, older ones." placeholder:"ID"`
}

// Help is shown by --help.
func (webhooksDeliveriesCmd) Help() string {
	return "Delivered messages are kept for 7 days, dead letters for 30.\n\nExamples:\n\n" +
		"  konstruct webhooks deliveries $ID --tenant $T --state dead\n" +
		"  konstruct webhooks deliveries $ID --tenant $T --message msg_019aa0b1c2d37e4f8a9b0c1d2e3f4a5b"
}

// Run lists them.
func (r webhooksDeliveriesCmd) Run(ctx context.Context, a *app) error {
	all, _, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	if r.Message != (webhook.MessageID{}) {
		d, attempts, err := all.Delivery(ctx, r.ID, r.Message)
		if err != nil {
			return err
		}
		return a.printAttempts(d, attempts)
	}
	found, err := all.Deliveries(ctx,
		webhook.DeliveryFilter{Endpoint: r.ID, State: r.State, After: r.After, Limit: r.Limit})
	if err != nil {
		return err
	}
	if found == nil {
		found = []webhook.Delivery{}
	}
	err = printTable(a, found, []string{"HAPPENED", "STATE", "TYPE", "MESSAGE", "ATTEMPTS", "NEXT", "REASON"},
		func(d webhook.Delivery) []string {
			next := ""
			if d.Due != nil {
				next = d.Due.UTC().Format(tableTime)
			}
			return []string{d.Timestamp.UTC().Format(tableTime), string(d.State), string(d.Type), d.Message.String(),
				strconv.Itoa(d.Attempts), next, oneLine(d.Reason, 60)}
		})
	if err == nil && !a.JSON && len(found) == r.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", found[len(found)-1].Message)
	}
	return err
}

// printAttempts prints a delivery's attempts, the last one first.
func (a *app) printAttempts(d webhook.Delivery, attempts []webhook.Attempt) error {
	if a.JSON {
		return a.json(struct {
			webhook.Delivery
			Tries []webhook.Attempt `json:"tries"`
		}{d, attempts})
	}
	fmt.Fprintf(a.out, "%s %s: %s\n\n", d.Message, d.Type, d.State)
	return printTable(a, attempts, []string{"ATTEMPT", "STARTED", "TOOK", "STATUS", "ERROR", "RESPONSE"},
		func(t webhook.Attempt) []string {
			took, status := "", ""
			if t.FinishedAt != nil {
				took = t.FinishedAt.Sub(t.StartedAt).Round(time.Millisecond).String()
			}
			if t.Status != nil {
				status = strconv.Itoa(*t.Status)
			}
			return []string{strconv.Itoa(t.Number), t.StartedAt.UTC().Format(tableTime), took, status,
				oneLine(t.Error, 70), oneLine(t.Response, 40)}
		})
}

type webhooksResendCmd struct {
	tenantFlag
	ID      uuid.UUID         `arg:"" help:"The webhook's id."`
	Message webhook.MessageID `arg:"" optional:"" help:"The message (msg_…); without, all dead letters since --since."`
	Since   string            `help:"From this time on (RFC 3339), or this long ago (24h)." placeholder:"TIME"`
}

// Help is shown by --help.
func (webhooksResendCmd) Help() string {
	return "A message has the id that it had, so that a receiver which got it knows it again.\n\nExamples:\n\n" +
		"  konstruct webhooks resend $ID msg_019aa0b1c2d37e4f8a9b0c1d2e3f4a5b --tenant $T\n" +
		"  konstruct webhooks resend $ID --tenant $T --since 72h"
}

// Run queues them.
func (r webhooksResendCmd) Run(ctx context.Context, a *app) error {
	one := r.Message != (webhook.MessageID{})
	if one == (r.Since != "") {
		return coded{errors.New("name a message, or give --since"), exitUsage}
	}
	since, _, err := timeRange(r.Since, "")
	if err != nil {
		return err
	}
	all, by, done, err := a.tenantWebhooks(ctx, r.Tenant)
	if err != nil {
		return err
	}
	defer done()
	if one {
		d, err := all.Resend(ctx, by, r.ID, r.Message)
		if err != nil {
			return err
		}
		return a.result(d, "%s is queued again\n", d.Message)
	}
	n, err := all.ResendDead(ctx, by, r.ID, since)
	if err != nil {
		return err
	}
	return a.result(map[string]int{"messages": n}, "%s queued again\n",
		plural.Of(n, "dead letter is", "dead letters are"))
}
