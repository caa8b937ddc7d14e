package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/tenantdb"
)

type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make a key, and print it: it is shown once."`
	List   keyListCmd   `cmd:"" help:"List keys."`
	Label  keyLabelCmd  `cmd:"" help:"Say which labels a key has, and so which documents it sees."`
	Rotate keyRotateCmd `cmd:"" help:"Make a key with the same rights in another's place."`
	Revoke keyRevokeCmd `cmd:"" help:"End a key at once, in every process."`
}

// defaultPermissions are those of a key for which nothing else is asked.
const defaultPermissions = "events:read,events:write,kb:read,kb:write"

type keyCreateCmd struct {
	tenantFlag
	Name string `arg:"" help:"What it is for."`

	Permission []access.Permission `help:"What it may do, named above." default:"${permissions}" placeholder:"ACTION"`

	Role  access.Role `help:"Instead of --permission: what this role may do." placeholder:"ROLE" complete:"${roles}"`
	Agent uuid.UUID   `help:"The one agent as which it acts and whose events it sees." placeholder:"UUID"`

	Label []string `help:"Label of documents it sees; '*' is every. Can be repeated." placeholder:"NAME" sep:"none"`

	Expires time.Duration `help:"When it ends, from now; never where it is not said." placeholder:"720h"`
}

// Help is shown by --help.
func (keyCreateCmd) Help() string {
	return "Permissions: events:read, events:write, escalations:write, gateway:use, evidence:read, kb:read, " +
		"kb:write, compliance:read, compliance:write, access:read, access:write, webhooks:read, webhooks:write, " +
		"tenants:impersonate.\n\n" +
		"Roles: viewer, auditor, operator, compliance, admin.\n\n" +
		"Documents that have no label are seen with every key.\n\n" +
		"Examples:\n\n  konstruct key create support-bot --tenant $T --agent $A\n  konstruct key create counsel " +
		"--tenant $T --role viewer --label legal\n  konstruct key create auditor --tenant $T --role auditor " +
		"--expires 720h\n  konstruct key create operator --tenant 6b6f6e73-7472-8563-8000-000000000001 --permission " +
		"tenants:impersonate"
}

// Run makes it.
func (r keyCreateCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	ask := access.KeyRequest{Name: r.Name, Agent: r.Agent, Permissions: r.Permission, Labels: r.Label}
	if r.Role != "" {
		if ask.Permissions = r.Role.Permissions(); ask.Permissions == nil {
			return coded{fmt.Errorf("--role: %.40q is none: it is viewer, auditor, operator, compliance or admin",
				string(r.Role)), exitUsage}
		}
	}
	if r.Expires != 0 {
		ask.ExpiresAt = time.Now().Add(r.Expires)
	}
	key, made, err := k.Tenant(r.Tenant).Keys().Create(ctx, access.LocalOperator(r.Tenant, operatorName()), ask)
	if err != nil {
		return err
	}
	return a.printKey(key, made)
}

// printKey prints a key that is shown once.
func (a *app) printKey(key string, made access.Key) error {
	if a.JSON {
		return a.json(map[string]any{"secret": key, "key": made})
	}
	fmt.Fprintf(a.err, "konstruct: the key is shown once; its id is %s\n", made.ID)
	_, err := fmt.Fprintln(a.out, key)
	return err
}

type keyListCmd struct {
	tenantFlag
	Limit int       `help:"How many at most, up to 1000." default:"50"`
	After uuid.UUID `help:"Continue after this one." placeholder:"UUID"`
}

// Run lists them.
func (r keyListCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	keys, err := k.Tenant(r.Tenant).Keys().List(ctx, r.After, r.Limit)
	if err != nil {
		return err
	}
	moment := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Format("2006-01-02 15:04")
	}
	return printTable(a, keys, []string{"KEY", "NAME", "MAY", "LABELS", "AGENT", "USED", "EXPIRES", "REVOKED"},
		func(k access.Key) []string {
			agent := ""
			if k.Agent != nil {
				agent = k.Agent.String()
			}
			return []string{k.ID.String(), oneLine(k.Name, 30), access.JoinPermissions(k.Permissions, ","),
				labelled(k.Labels), agent, moment(k.UsedAt), moment(k.ExpiresAt), moment(k.RevokedAt)}
		})
}

// labelled are labels in a table.
func labelled(labels []string) string { return oneLine(strings.Join(labels, ","), 40) }

type keyLabelCmd struct {
	tenantFlag
	ID    uuid.UUID `arg:"" help:"The key's id."`
	Label []string  `help:"Label that it has from now on; '*' is every. Can be repeated." placeholder:"NAME" sep:"none"`
}

// Help is shown by --help.
func (keyLabelCmd) Help() string {
	return "The labels that are given replace those that the key had; without --label it has none. Documents that " +
		"have no label are seen with every key.\n\nExamples:\n\n" +
		"  konstruct key label $ID --tenant $T --label legal --label hr\n  konstruct key label $ID --tenant $T"
}

// Run grants them.
func (r keyLabelCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	granted, err := k.Tenant(r.Tenant).Keys().SetLabels(ctx, access.LocalOperator(r.Tenant, operatorName()),
		r.ID, r.Label)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(granted)
	}
	_, err = fmt.Fprintf(a.out, "%s (%s) sees documents without labels%s\n", granted.ID, printable(granted.Name),
		saveBeside(granted.Labels))
	return err
}

// saveBeside says what somebody sees beside documents without labels.
func saveBeside(labels []string) string {
	switch {
	case len(labels) == 0:
		return ""
	case slices.Equal(labels, []string{tenantdb.AllLabelsName}):
		return ", and those with any label"
	}
	return ", and those with " + printable(strings.Join(labels, ", "))
}

type keyRotateCmd struct {
	tenantFlag
	ID      uuid.UUID     `arg:"" help:"The key's id."`
	Overlap time.Duration `help:"How long the old one holds beside it." default:"24h"`
}

// Run rotates it.
func (r keyRotateCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	key, made, err := k.Tenant(r.Tenant).Keys().Rotate(ctx, access.LocalOperator(r.Tenant, operatorName()),
		r.ID, r.Overlap)
	if err != nil {
		return err
	}
	return a.printKey(key, made)
}

type keyRevokeCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The key's id."`
}

// Run revokes it.
func (r keyRevokeCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	revoked, err := k.Tenant(r.Tenant).Keys().Revoke(ctx, access.LocalOperator(r.Tenant, operatorName()), r.ID)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(revoked)
	}
	_, err = fmt.Fprintf(a.out, "revoked %s (%s)\n", revoked.ID, printable(revoked.Name))
	return err
}

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Give a person whom the identity provider knows a role."`
	List   userListCmd   `cmd:"" help:"List people and their roles."`
	Remove userRemoveCmd `cmd:"" help:"End what a person may do, at once."`
}

type userAddCmd struct {
	tenantFlag
	Subject string      `arg:"" help:"As the provider's tokens have it (sub)."`
	Role    access.Role `required:"" help:"One of: ${roles}." placeholder:"ROLE" complete:"${roles}"`
	Name    string      `help:"For people." placeholder:"NAME"`
	Label   []string    `help:"Label of documents that they may see. Can be repeated." placeholder:"NAME" sep:"none"`
}

// Help is shown by --help.
func (userAddCmd) Help() string {
	return "The provider is that of KONSTRUCT_OIDC_ISSUER. Documents that have no label are seen by everybody; label " +
		"'*' is every label, --label= is none. Without --label, somebody who is there keeps theirs.\n\nExample:\n\n" +
		"  konstruct user add 248289761001 --tenant $T --role auditor --name \"Ada\" --label legal"
}

// Run admits.
func (r userAddCmd) Run(ctx context.Context, a *app) error {
	if a.OIDCIssuer == "" {
		return coded{fmt.Errorf("user add needs KONSTRUCT_OIDC_ISSUER: the identity provider's URL"), exitUsage}
	}
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	if len(r.Label) == 1 && r.Label[0] == "" {
		r.Label = []string{}
	}
	u, err := k.Tenant(r.Tenant).Users().Add(ctx, access.LocalOperator(r.Tenant, operatorName()),
		access.User{Issuer: a.OIDCIssuer, Subject: r.Subject, Name: r.Name, Role: r.Role, Labels: r.Label})
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(u)
	}
	_, err = fmt.Fprintf(a.out, "%s is %s here (%s), and sees documents without labels%s\n", printable(u.Name), u.Role,
		u.ID, saveBeside(u.Labels))
	return err
}

type userListCmd struct {
	tenantFlag
	Limit int       `help:"How many at most, up to 1000." default:"50"`
	After uuid.UUID `help:"Continue after this one." placeholder:"UUID"`
}

// Run lists them.
func (r userListCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	users, err := k.Tenant(r.Tenant).Users().List(ctx, r.After, r.Limit)
	if err != nil {
		return err
	}
	return printTable(a, users, []string{"USER", "NAME", "ROLE", "LABELS", "SUBJECT", "ISSUER"},
		func(u access.User) []string {
			return []string{u.ID.String(), oneLine(u.Name, 30), string(u.Role), labelled(u.Labels),
				oneLine(u.Subject, 40),
				oneLine(u.Issuer, 40)}
		})
}

type userRemoveCmd struct {
	tenantFlag
	ID uuid.UUID `arg:"" help:"The user's id."`
}

// Run dismisses.
func (r userRemoveCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.openWithKeys(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := k.Tenant(r.Tenant).Users().Remove(ctx, access.LocalOperator(r.Tenant, operatorName()), r.ID); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "dismissed %s\n", r.ID)
	return err
}
