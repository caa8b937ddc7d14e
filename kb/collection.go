package kb

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/strictjson"
	"github.com/konstruct/konstruct/tenantdb"
)

// Collection is a named set of a tenant's documents: what OpenAI's API calls a vector store, and Qdrant a collection.
type Collection struct {
	ID          uuid.UUID      `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Labels      []string       `json:"labels,omitempty"` // who may see it: as those of a document
	Metadata    map[string]any `json:"metadata,omitempty"`
	// ExpiresDays is after how many days without a search or a change it expires; 0 is never.
	ExpiresDays  int       `json:"expires_after_days,omitempty"`
	Expired      bool      `json:"expired"`
	CreatedAt    time.Time `json:"created_at"`
	LastActiveAt time.Time `json:"last_active_at"` // to the minute
	// Documents is how many are in it, and Bytes the size of their files and texts.
	Documents int   `json:"documents"`
	Bytes     int64 `json:"bytes"`
	// Pending is how many are still ingested, and Failed how many were not, because of an error or a cancellation.
	Pending   int `json:"pending"`
	Failed    int `json:"failed"`
	Cancelled int `json:"cancelled"`
}

// ExpiresAt is when it expires unless it is searched or changed before; zero where it does not.
func (c *Collection) ExpiresAt() time.Time {
	if c.ExpiresDays == 0 {
		return time.Time{}
	}
	return c.LastActiveAt.AddDate(0, 0, c.ExpiresDays)
}

// CollectionOptions are what the caller sets on a collection. When one is updated, nil fields keep their values.
type CollectionOptions struct {
	Name, Description *string
	Labels            []string
	Metadata          map[string]any
	ExpiresDays       *int // 0 is never
	// SharedName lets other collections have the name, too: ids identify them.
	SharedName bool
}

// Limits on collections.
const (
	MaxCollections        = 10_000 // of a tenant
	MaxCollectionName     = 256    // bytes
	MaxDescription        = 4096   // bytes
	MaxExpiresDays        = 3650
	MaxCollectionsOf      = 100 // that one search or document names
	MaxAttributes         = 16
	MaxAttributeKey       = 64  // characters
	MaxAttribute          = 512 // characters of text
	maxCollectionMetadata = 16 << 10
)

// ErrNoCollection says that this tenant has no such collection, or none that the caller may see.
var ErrNoCollection = errors.New("there is no such collection of this tenant: konstruct kb collection list shows all")

// ErrCollectionName says that another collection has that name.
var ErrCollectionName = errors.New("name: another collection has it: choose another, or use that collection")

// ErrCollectionExpired says that a collection has expired, and holds nothing.
var ErrCollectionExpired = errors.New("the collection has expired: its documents are no longer in it; make a new one")

// ErrTooManyCollections says that a tenant has as many collections as it may.
var ErrTooManyCollections = fmt.Errorf("there are %d collections already: delete some", MaxCollections)

// Check reports what can't be stored; the error begins with the field's name.
func (o *CollectionOptions) Check() error {
	text := func(field string, s *string, limit int) error {
		if s != nil && (len(*s) > limit || strings.ContainsRune(*s, 0) || !utf8.ValidString(*s)) {
			return fmt.Errorf("%s: it is UTF-8 text of at most %d bytes", field, limit)
		}
		return nil
	}
	if err := errors.Join(text("name", o.Name, MaxCollectionName),
		text("description", o.Description, MaxDescription)); err != nil {
		return err
	}
	if err := CheckLabels(o.Labels); err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	if o.ExpiresDays != nil && (*o.ExpiresDays < 0 || *o.ExpiresDays > MaxExpiresDays) {
		return fmt.Errorf("expires_after_days: %d: it is 1 to %d, or 0 for never", *o.ExpiresDays, MaxExpiresDays)
	}
	raw, err := json.Marshal(o.Metadata)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if len(raw) > maxCollectionMetadata {
		return fmt.Errorf("metadata: %d bytes, the limit is %d", len(raw), maxCollectionMetadata)
	}
	if at, what := strictjson.CheckStorable(raw); what != "" {
		return fmt.Errorf("metadata%s: %s", at, what)
	}
	return nil
}

// CheckAttributes reports attributes that a document can't have in a collection; the error begins with the field's
// name.
func CheckAttributes(attributes map[string]any) error {
	if len(attributes) > MaxAttributes {
		return fmt.Errorf("attributes: %d, the limit is %d", len(attributes), MaxAttributes)
	}
	for key, v := range attributes {
		if n := utf8.RuneCountInString(key); n < 1 || n > MaxAttributeKey {
			return fmt.Errorf("attributes: the key %.80q has %d characters: it is 1 to %d", key, n, MaxAttributeKey)
		}
		switch v := v.(type) {
		case string:
			if n := utf8.RuneCountInString(v); n > MaxAttribute {
				return fmt.Errorf("attributes.%s: %d characters, the limit is %d", key, n, MaxAttribute)
			}
		case bool, float64, int, int64, json.Number:
		default:
			return fmt.Errorf("attributes.%s: it is text, a number or true or false", key)
		}
	}
	raw, err := json.Marshal(attributes)
	if err != nil {
		return fmt.Errorf("attributes: %w", err)
	}
	if at, what := strictjson.CheckStorable(raw); what != "" {
		return fmt.Errorf("attributes%s: %s", at, what)
	}
	return nil
}

//go:embed sql/collections.sql
var collectionsSQL string

func scanCollection(r pgx.CollectableRow) (c Collection, err error) {
	err = r.Scan(&c.ID, &c.Name, &c.Description, &c.Labels, &c.Metadata, &c.ExpiresDays, &c.Expired, &c.CreatedAt,
		&c.LastActiveAt, &c.Documents, &c.Bytes, &c.Pending, &c.Failed, &c.Cancelled)
	return c, err
}

// CreateCollection creates a collection within the caller's transaction, whose tenant must be set to tenant already.
// Unique refuses a name that another has, with ErrCollectionName.
func CreateCollection(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, o CollectionOptions,
	unique bool) (c Collection, err error) {
	if err = o.check(ctx); err == nil {
		c.ID, err = uuid.NewV7()
	}
	if err != nil {
		return c, fmt.Errorf("kb: create a collection: %w", err)
	}
	if err = claimName(ctx, tx, tenant, c.ID, o.Name, unique); err == nil {
		var there int
		if err = tx.QueryRow(ctx, `SELECT count(*) FROM kb_collections WHERE tenant_id = $1`, tenant).
			Scan(&there); err == nil && there >= MaxCollections {
			err = ErrTooManyCollections
		}
	}
	if err == nil {
		_, err = tx.Exec(ctx,
			`INSERT INTO kb_collections (tenant_id, id, name, description, labels, metadata, expires_days)
		    VALUES ($1, $2, coalesce($3::text, ''), coalesce($4::text, ''), coalesce($5::text[], '{}'),
		            coalesce($6::jsonb, '{}'), nullif($7::integer, 0))`,
			tenant, c.ID, o.Name, o.Description, o.Labels, o.Metadata, o.ExpiresDays)
	}
	if err == nil {
		c, err = GetCollection(ctx, tx, tenant, c.ID)
	}
	if err != nil {
		return c, fmt.Errorf("kb: create a collection: %w", err)
	}
	return c, nil
}

// check reports what can't be stored, and labels that the caller was not granted.
func (o *CollectionOptions) check(ctx context.Context) error {
	if err := o.Check(); err != nil {
		return err
	}
	if sees, known := tenantdb.Granted(ctx); known {
		return DocumentOptions{Labels: o.Labels}.grantedLabels(sees)
	}
	return nil
}

// claimName has those that name a collection take turns, and refuses a name that another has.
func claimName(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, name *string, unique bool) error {
	if name == nil || *name == "" || !unique {
		return nil
	}
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('collection ' || $1 || $2, 0))`,
		tenant.String(), *name); err != nil {
		return err
	}
	var taken bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM kb_collections
	     WHERE tenant_id = $1 AND name = $2 AND id <> $3)`, tenant, *name, id).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return ErrCollectionName
	}
	return nil
}

// GetCollection returns a collection of the transaction's tenant, or ErrNoCollection.
func GetCollection(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (c Collection, err error) {
	rows, err := tx.Query(ctx, collectionsSQL+` AND c.id = $2`, tenant, id)
	if err == nil {
		c, err = pgx.CollectExactlyOneRow(rows, scanCollection)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return c, ErrNoCollection
	}
	if err != nil {
		return c, fmt.Errorf("kb: get the collection %s: %w", id, err)
	}
	return c, nil
}

// ListCollections lists a tenant's collections in the order of their ids, which is that of their creation; beginning
// after the given one (uuid.Nil: from the first), or, where backwards, before it (uuid.Nil: from the last).
func ListCollections(ctx context.Context, door *tenantdb.Door, tenant, after uuid.UUID, backwards bool,
	limit int) (all []Collection, err error) {
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("kb: list %d collections: the limit is 1 to %d", limit, MaxList)
	}
	order := ` AND c.id > $2 ORDER BY c.id LIMIT $3`
	if backwards {
		order = ` AND (c.id < $2 OR $2 = '00000000-0000-0000-0000-000000000000') ORDER BY c.id DESC LIMIT $3`
	}
	err = door.Query(ctx, tenant, collectionsSQL+order, []any{tenant, after, limit}, func(rows pgx.Rows) error {
		all, err = pgx.CollectRows(rows, scanCollection)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("kb: list collections: %w", err)
	}
	return all, nil
}

// PageCollections returns a page of a tenant's collections in the order of their creation, and whether there are more;
// or ErrNoCursor.
func PageCollections(ctx context.Context, door *tenantdb.Door, tenant uuid.UUID,
	page Page) (all []Collection, more bool, err error) {
	at := func(id string) string {
		return `SELECT b.created_at, b.id FROM kb_collections b WHERE b.tenant_id = $1 AND b.id = ` + id
	}
	sql, args := page.SQL([]string{"c.created_at", "c.id"}, at, []any{tenant})
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, collectionsSQL+sql, args...)
		if err == nil {
			all, err = pgx.CollectRows(rows, scanCollection)
		}
		for _, cursor := range []*uuid.UUID{page.After, page.Before} {
			if err == nil && len(all) == 0 && cursor != nil {
				if _, err = lockCollection(ctx, tx, tenant, *cursor, ``); errors.Is(err, ErrNoCollection) {
					return ErrNoCursor
				}
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNoCursor) {
		return nil, false, fmt.Errorf("kb: list collections: %w", err)
	}
	all, more = CutPage(page, all)
	return all, more, err
}

// UpdateCollection changes what o sets, within the caller's transaction. Unique is as in CreateCollection.
func UpdateCollection(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID, o CollectionOptions,
	unique bool) (c Collection, err error) {
	if err = o.check(ctx); err == nil {
		err = claimName(ctx, tx, tenant, id, o.Name, unique)
	}
	var expired bool
	if err == nil {
		err = tx.QueryRow(ctx, `UPDATE kb_collections SET name = coalesce($3::text, name),
		    description = coalesce($4::text, description), labels = coalesce($5::text[], labels),
		    metadata = coalesce($6::jsonb, metadata),
		    expires_days = CASE WHEN $7::integer IS NULL THEN expires_days ELSE nullif($7::integer, 0) END,
		    last_active_at = CASE WHEN expired THEN last_active_at ELSE now() END
		  WHERE tenant_id = $1 AND id = $2 RETURNING expired`,
			tenant, id, o.Name, o.Description, o.Labels, o.Metadata, o.ExpiresDays).Scan(&expired)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return c, ErrNoCollection
	case err == nil && expired && o.ExpiresDays != nil:
		err = ErrCollectionExpired
	}
	if err == nil {
		c, err = GetCollection(ctx, tx, tenant, id)
	}
	if err != nil {
		return c, fmt.Errorf("kb: update the collection %s: %w", id, err)
	}
	return c, nil
}

// DeleteCollection deletes a collection within the caller's transaction, and returns it as it was. Its documents stay.
func DeleteCollection(ctx context.Context, tx pgx.Tx, tenant, id uuid.UUID) (c Collection, err error) {
	if c, err = GetCollection(ctx, tx, tenant, id); err != nil {
		return c, err
	}
	if _, err = tx.Exec(ctx, `DELETE FROM kb_collections WHERE tenant_id = $1 AND id = $2`, tenant, id); err != nil {
		return c, fmt.Errorf("kb: delete the collection %s: %w", id, err)
	}
	return c, nil
}

// CollectionNameError says which collection that was named is not there, has expired, or shares its name.
type CollectionNameError struct {
	Name string
	Err  error
}

// Error implements error.
func (e *CollectionNameError) Error() string { return fmt.Sprintf("%.200q: %v", e.Name, e.Err) }

// Unwrap returns why.
func (e *CollectionNameError) Unwrap() error { return e.Err }

// FindCollections returns the ids of collections by their names or ids, each once, or a *CollectionNameError. It runs
// in the caller's transaction.
func FindCollections(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, names []string) (ids []uuid.UUID, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	if len(names) > MaxCollectionsOf {
		return nil, &CollectionNameError{names[MaxCollectionsOf],
			fmt.Errorf("there are %d names, the limit is %d", len(names), MaxCollectionsOf)}
	}
	type found struct {
		id      uuid.UUID
		expired bool
	}
	byID, byName := map[string][]found{}, map[string][]found{}
	rows, err := tx.Query(ctx, `SELECT id, name, expired FROM kb_collections
	  WHERE tenant_id = $1 AND (name = ANY ($2) AND name <> '' OR id::text = ANY ($2)) ORDER BY id`,
		tenant, normalNames(names))
	if err == nil {
		var f found
		var name string
		_, err = pgx.ForEachRow(rows, []any{&f.id, &name, &f.expired}, func() error {
			byID[f.id.String()] = []found{f}
			byName[name] = append(byName[name], f)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("kb: look collections up: %w", err)
	}
	seen := map[uuid.UUID]bool{}
	for i, name := range normalNames(names) {
		all := byID[name] // an id goes before a name that looks like it
		if len(all) == 0 {
			all = byName[name]
		}
		switch {
		case name == "" || len(all) == 0:
			return nil, &CollectionNameError{names[i], ErrNoCollection}
		case len(all) > 1:
			return nil, &CollectionNameError{names[i], fmt.Errorf("%d collections have this name: use the id of one, "+
				"such as %s or %s", len(all), all[0].id, all[1].id)}
		case all[0].expired:
			return nil, &CollectionNameError{names[i], ErrCollectionExpired}
		}
		if !seen[all[0].id] {
			ids = append(ids, all[0].id)
		}
		seen[all[0].id] = true
	}
	return ids, nil
}

// normalNames are the names, with ids as the database writes them.
func normalNames(names []string) []string {
	normal := make([]string, len(names))
	for i, name := range names {
		normal[i] = strings.ReplaceAll(strings.ToValidUTF8(name, "\uFFFD"), "\x00", "\uFFFD")
		if id, err := uuid.Parse(name); err == nil && len(name) == 36 {
			normal[i] = id.String()
		}
	}
	return normal
}

// TouchCollections notes that collections are in use, where they expire and that was not noted in the last minute. What
// somebody else is noting is passed over: no search waits for another.
func TouchCollections(ctx context.Context, tx pgx.Tx, tenant uuid.UUID, ids []uuid.UUID) error {
	_, err := tx.Exec(ctx, `WITH due AS (SELECT id FROM kb_collections
	     WHERE tenant_id = $1 AND id = ANY ($2) AND expires_days IS NOT NULL AND NOT expired
	       AND last_active_at < now() - interval '1 minute' FOR NO KEY UPDATE SKIP LOCKED)
	  UPDATE kb_collections c SET last_active_at = now() FROM due WHERE c.tenant_id = $1 AND c.id = due.id`,
		tenant, ids)
	if err != nil {
		return fmt.Errorf("kb: note that collections are in use: %w", err)
	}
	return nil
}
