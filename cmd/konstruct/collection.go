package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/plural"
)

type kbCollectionCmd struct {
	Create    collectionCreateCmd    `cmd:"" help:"Create a collection."`
	List      collectionListCmd      `cmd:"" help:"List the collections."`
	Show      collectionShowCmd      `cmd:"" help:"Show a collection."`
	Update    collectionUpdateCmd    `cmd:"" help:"Change what is given of a collection."`
	Delete    collectionDeleteCmd    `cmd:"" help:"Delete a collection; its documents stay."`
	Documents collectionDocumentsCmd `cmd:"" help:"List the documents of a collection."`
	Add       collectionAddCmd       `cmd:"" help:"Add documents to a collection, or set their attributes there."`
	Remove    collectionRemoveCmd    `cmd:"" help:"Take documents out of a collection; they stay."`
}

// collectionFlag names a collection.
type collectionFlag struct {
	tenantFlag
	Collection string `arg:"" help:"Its name or id."`
}

// find opens the database and looks the collection up.
func (f collectionFlag) find(ctx context.Context, a *app) (t *konstruct.Tenant, c konstruct.Collection, done func(),
	err error) {
	k, done, err := a.open(ctx)
	if err != nil {
		return nil, c, nil, err
	}
	t = k.Tenant(f.Tenant)
	if c, err = t.Collections().Get(ctx, f.Collection); err != nil {
		done()
	}
	return t, c, done, err
}

// collectionFields are what is set on a collection.
type collectionFields struct {
	Description *string  `help:"What it holds." placeholder:"TEXT"`
	Label       []string `help:"Who sees it: those granted one of these labels. Can be repeated." placeholder:"NAME"`

	Metadata map[string]string `help:"Anything else to say of it." placeholder:"KEY=VALUE" mapsep:","`

	ExpiresAfter *int `help:"Expire after so many days without use; 0 is never." placeholder:"DAYS"`
}

func (f collectionFields) options(name *string) konstruct.CollectionOptions {
	o := konstruct.CollectionOptions{Name: name, Description: f.Description, Labels: f.Label,
		ExpiresDays: f.ExpiresAfter}
	if len(f.Label) == 1 && f.Label[0] == "" {
		o.Labels = []string{}
	}
	if len(f.Metadata) > 0 {
		o.Metadata = map[string]any{}
	}
	for k, v := range f.Metadata {
		o.Metadata[k] = v
	}
	return o
}

type collectionCreateCmd struct {
	tenantFlag
	agentFlag
	Name string `arg:"" help:"Its name."`
	collectionFields
}

// Help is shown by --help.
func (collectionCreateCmd) Help() string {
	return "A collection is a named set of documents, which searches can be restricted to. A document may be in " +
		"several, with attributes of its own in each. New documents of a collection with labels get these labels, " +
		"unless they are given others.\n\nExamples:\n\n" +
		"  konstruct kb collection create handbook --tenant $T --description \"What employees ask about\"\n" +
		"  konstruct kb ingest --tenant $T --collection handbook --attribute region=eu docs/\n" +
		"  konstruct kb search --tenant $T --collection handbook \"How many days off?\""
}

// Run creates the collection.
func (c collectionCreateCmd) Run(ctx context.Context, a *app) error {
	if c.Name == "" {
		return coded{errors.New("the name is empty: collections are found by their names"), exitUsage}
	}
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	made, event, err := c.agent(k.Tenant(c.Tenant), c.Tenant).CreateCollection(ctx, c.options(&c.Name))
	if err != nil {
		return err
	}
	return a.result(changedCollection{made, event}, "%s\n", made.ID)
}

// changedCollection is a collection and the event that records its change.
type changedCollection struct {
	konstruct.Collection
	EventID uuid.UUID `json:"event_id"`
}

type collectionListCmd struct {
	tenantFlag
	Limit int       `help:"How many at most, up to 1000." default:"100"`
	After uuid.UUID `help:"Continue after this collection." placeholder:"UUID"`
}

// Run lists the collections.
func (c collectionListCmd) Run(ctx context.Context, a *app) error {
	k, done, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	all, err := k.Tenant(c.Tenant).Collections().List(ctx, c.After, c.Limit)
	if err != nil {
		return err
	}
	if all == nil {
		all = []konstruct.Collection{}
	}
	err = printTable(a, all, []string{"COLLECTION", "NAME", "DOCUMENTS", "BYTES", "EXPIRES", "DESCRIPTION"},
		func(c konstruct.Collection) []string {
			return []string{c.ID.String(), oneLine(c.Name, 40), fmt.Sprint(c.Documents), fmt.Sprint(c.Bytes),
				expiry(&c),
				oneLine(c.Description, 40)}
		})
	if err == nil && !a.JSON && len(all) == c.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", all[len(all)-1].ID)
	}
	return err
}

// expiry says when a collection expires.
func expiry(c *konstruct.Collection) string {
	switch {
	case c.Expired:
		return "expired"
	case c.ExpiresDays == 0:
		return "never"
	}
	return c.ExpiresAt().UTC().Format(time.DateOnly)
}

type collectionShowCmd struct{ collectionFlag }

// Run shows the collection.
func (c collectionShowCmd) Run(ctx context.Context, a *app) error {
	_, found, done, err := c.find(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	if a.JSON {
		return a.json(found)
	}
	fmt.Fprintf(a.out, "%s  %s\n", a.bold(printable(found.Name)), found.ID)
	if found.Description != "" {
		fmt.Fprintln(a.out, printable(found.Description))
	}
	fmt.Fprintf(a.out, "%s, %d bytes; %d in progress, %d failed, %d cancelled\ncreated %s, expires: %s\n",
		plural.Of(found.Documents, "document", "documents"), found.Bytes, found.Pending, found.Failed, found.Cancelled,
		found.CreatedAt.UTC().Format(time.RFC3339), expiry(&found))
	if len(found.Labels) > 0 {
		fmt.Fprintf(a.out, "for %s\n", printable(fmt.Sprint(found.Labels)))
	}
	return nil
}

type collectionUpdateCmd struct {
	collectionFlag
	agentFlag
	Name *string `help:"Its new name." placeholder:"NAME"`
	collectionFields
}

// Run updates the collection.
func (c collectionUpdateCmd) Run(ctx context.Context, a *app) error {
	t, found, done, err := c.find(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	changed, event, err := c.agent(t, c.Tenant).UpdateCollection(ctx, found.ID, c.options(c.Name))
	if err != nil {
		return err
	}
	return a.result(changedCollection{changed, event}, "updated; event %s\n", event)
}

type collectionDeleteCmd struct {
	collectionFlag
	agentFlag
}

// Run deletes the collection.
func (c collectionDeleteCmd) Run(ctx context.Context, a *app) error {
	t, found, done, err := c.find(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	gone, event, err := c.agent(t, c.Tenant).DeleteCollection(ctx, found.ID)
	if err != nil {
		return err
	}
	return a.result(changedCollection{gone, event}, "deleted; its %s stay; event %s\n",
		plural.Of(gone.Documents, "document", "documents"), event)
}

type collectionDocumentsCmd struct {
	collectionFlag
	Limit int       `help:"How many at most, up to 1000." default:"100"`
	After uuid.UUID `help:"Continue after this entry." placeholder:"UUID"`
}

// Run lists the collection's documents.
func (c collectionDocumentsCmd) Run(ctx context.Context, a *app) error {
	t, found, done, err := c.find(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	all, err := t.Collections().Documents(ctx, found.ID, c.After, c.Limit)
	if err != nil {
		return err
	}
	if all == nil {
		all = []konstruct.CollectionDocument{}
	}
	err = printTable(a, all, []string{"DOCUMENT", "FILE", "STATE", "BYTES", "ATTRIBUTES", "ADDED"},
		func(e konstruct.CollectionDocument) []string {
			attributes, _ := json.Marshal(e.Attributes)
			return []string{e.ID.String(), oneLine(e.Filename, 40), string(e.State), fmt.Sprint(e.Bytes),
				oneLine(string(attributes), 60), e.AddedAt.UTC().Format("2006-01-02 15:04")}
		})
	if err == nil && !a.JSON && len(all) == c.Limit {
		fmt.Fprintf(a.err, "more: --after %s\n", all[len(all)-1].ID)
	}
	return err
}

// attributeFlag sets attributes of documents in a collection.
type attributeFlag struct {
	Attribute map[string]string `help:"Of documents there: text, a number, true." placeholder:"KEY=VALUE" mapsep:"none"`
}

// attributes reads numbers and truth values as such; "5" in quotes is text.
func (f attributeFlag) attributes() map[string]any {
	if f.Attribute == nil {
		return nil
	}
	all := map[string]any{}
	for k, text := range f.Attribute {
		all[k] = text
		var v any
		if json.Unmarshal([]byte(text), &v) == nil {
			switch v.(type) {
			case string, bool, float64:
				all[k] = v
			}
		}
	}
	return all
}

type collectionAddCmd struct {
	collectionFlag
	agentFlag
	attributeFlag
	IDs []uuid.UUID `arg:"" name:"document" help:"The documents' ids."`
}

// Run adds the documents.
func (c collectionAddCmd) Run(ctx context.Context, a *app) error {
	t, found, done, err := c.find(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	added := []konstruct.CollectionDocument{}
	for _, id := range c.IDs {
		e, _, err := c.agent(t, c.Tenant).Collect(ctx, found.ID, id, c.attributes())
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		added = append(added, e)
	}
	return a.result(added, "added %s\n", plural.Of(len(added), "document", "documents"))
}

type collectionRemoveCmd struct {
	collectionFlag
	agentFlag
	IDs []uuid.UUID `arg:"" name:"document" help:"The documents' ids."`
}

// Run takes the documents out.
func (c collectionRemoveCmd) Run(ctx context.Context, a *app) error {
	t, found, done, err := c.find(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	events := []uuid.UUID{}
	for _, id := range c.IDs {
		event, err := c.agent(t, c.Tenant).Uncollect(ctx, found.ID, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		events = append(events, event)
	}
	return a.result(events, "removed %s\n", plural.Of(len(events), "document", "documents"))
}
