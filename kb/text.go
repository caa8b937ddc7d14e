package kb

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/tenantdb"
)

// Limits on a page of a document's text, in bytes.
const (
	MaxTextPage = 1 << 20
	maxOffset   = 1<<30 - 1 // of a page in its text: PostgreSQL's text has less than 1 GiB
)

// TextPage is a part of a document's text, of whole characters.
type TextPage struct {
	Document Document
	Text     string
	Offset   int // of Text in the document's text, in bytes
	Next     int // the offset of the next page; 0 on the last one
	Bytes    int // of the document's text
}

//go:embed sql/text_page.sql
var textPageSQL string

// GetText returns the part of a document's text that begins at offset and has at most limit bytes, or ErrNotFound.
// Where
// offset is inside a character, the page begins with the next one. For an offset or a limit that can't be it returns a
// *TextError.
func GetText(ctx context.Context, door *tenantdb.Door, tenant, document uuid.UUID,
	offset, limit int) (p TextPage, err error) {
	switch {
	case offset < 0 || offset > maxOffset:
		return p, &TextError{"offset", fmt.Sprintf("%d: it is 0 to %d", offset, maxOffset)}
	case limit < utf8.UTFMax || limit > MaxTextPage:
		return p, &TextError{"limit", fmt.Sprintf("%d: it is %d to %d", limit, utf8.UTFMax, MaxTextPage)}
	}
	var raw []byte
	err = door.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, documentsSQL+` AND d.id = $2`, tenant, document)
		if err != nil {
			return err
		}
		if p.Document, err = pgx.CollectExactlyOneRow(rows, scanDocument); err != nil {
			return err
		}
		return tx.QueryRow(ctx, textPageSQL, tenant, document, offset, limit).Scan(&p.Bytes, &raw)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return TextPage{}, fmt.Errorf("kb: read the text of %s: %w", document, err)
	}
	p.Offset = min(offset, p.Bytes)
	for len(raw) > 0 && !utf8.RuneStart(raw[0]) {
		raw, p.Offset = raw[1:], p.Offset+1
	}
	if end := p.Offset + len(raw); end < p.Bytes {
		raw = raw[:len(raw)-partial(raw)]
		p.Next = p.Offset + len(raw)
	}
	p.Text = string(raw)
	return p, nil
}

// partial returns how many bytes at the end of a text are the beginning of a character.
func partial(raw []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(raw); n++ {
		if last := raw[len(raw)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// TextError says which part of a request for a text can't be, and why.
type TextError struct{ Field, Reason string }

// Error implements error.
func (e *TextError) Error() string { return e.Field + ": " + e.Reason }
