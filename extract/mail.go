package extract

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jhillyerd/enmime/v2"
)

// maxAttached is the deepest nesting of attached messages.
const maxAttached = 3

// mailKey is the context key of the nesting depth.
type mailKey struct{}

// readMail reads a message (RFC 5322) with its attachments. For an unreadable attachment it writes the reason.
func (x *Extractor) readMail(ctx context.Context, raw []byte) (*Document, error) {
	if err := mailBounds(raw); err != nil {
		return nil, err
	}
	e, err := enmime.NewParser(enmime.MaxStoredPartErrors(10)).ReadEnvelope(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	w := &writer{}
	w.Title, w.Author, w.Language = collapseSpaces(e.GetHeader("Subject")), collapseSpaces(e.GetHeader("From")),
		collapseSpaces(e.GetHeader("Content-Language"))
	if at, err := e.Date(); err == nil {
		w.Created = at.UTC()
	}
	for _, name := range []string{"From", "To", "Cc", "Date"} {
		if value := e.GetHeader(name); value != "" {
			if err := w.add(Block{Text: name + ": " + value}); err != nil {
				return nil, err
			}
		}
	}
	body := &Document{}
	if root := e.Root; e.Text != "" &&
		(e.HTML == "" || root != nil && !strings.HasPrefix(root.ContentType, "text/html")) {
		body, err = readText([]byte(strings.ReplaceAll(e.Text, "\x00", "")))
	} else if e.HTML != "" {
		body, err = readHTML(ctx, []byte(strings.ReplaceAll(e.HTML, "\x00", "")))
	}
	if err != nil {
		return nil, err
	}
	if err := w.all(body, 0); err != nil {
		return nil, err
	}
	for _, part := range append(e.Attachments, e.OtherParts...) {
		if err := x.attached(ctx, w, part); err != nil {
			return nil, err
		}
	}
	return &w.Document, nil
}

// Limits on a message's parts. The library's time doubles with each unterminated multipart within another: 0.05 s for
// fifteen, hours for thirty. 20,000 parts take it ten seconds.
const (
	maxMultiparts = 15
	maxMailParts  = 5000
)

// boundary matches the declaration of a multipart's boundary.
var boundary = regexp.MustCompile(`(?i)boundary(\*\d*\*?)?\s*=`)

func mailBounds(raw []byte) error {
	if n := len(boundary.FindAllIndex(raw, maxMultiparts+1)); n > maxMultiparts {
		return fmt.Errorf("%w: more than %d multiparts: save its attachments, and ingest them", ErrTooLarge,
			maxMultiparts)
	}
	if n := bytes.Count(raw, []byte("\n--")); n > maxMailParts {
		return fmt.Errorf("%w: more than %d parts: save its attachments, and ingest them", ErrTooLarge, maxMailParts)
	}
	return nil
}

func (x *Extractor) attached(ctx context.Context, w *writer, part *enmime.Part) error {
	depth, _ := ctx.Value(mailKey{}).(int)
	name := firstText(part.FileName, part.ContentType)
	var d *Document
	kind, err := Type(part.FileName, part.Content)
	if err == nil && depth >= maxAttached {
		err = fmt.Errorf("it is attached more than %d deep", maxAttached)
	}
	if err == nil {
		d, err = x.Extract(context.WithValue(ctx, mailKey{}, depth+1), kind, part.Content)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := w.add(Block{Kind: Heading, Level: 1, Text: "Attachment: " + name}); err != nil {
		return err
	}
	if err != nil {
		return w.add(Block{Text: fmt.Sprintf("(not read: %v)", err)})
	}
	return w.all(d, 1)
}

// EachMessage calls each with every message of a mailbox (RFC 4155). It holds one message in memory; of one larger than
// MaxText it passes the beginning, with tooLong set.
func EachMessage(ctx context.Context, r io.Reader, each func(n int, raw []byte, tooLong bool) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var message bytes.Buffer
	n, began, long, blank, whole := 0, false, false, true, true
	flush := func() error {
		if !began || message.Len() == 0 {
			return nil
		}
		n++
		err := each(n, message.Bytes(), long)
		message.Reset()
		long = false
		return err
	}
	for lines := 0; ; lines++ {
		if lines%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := in.ReadSlice('\n') // a part of a line that exceeds the buffer
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil
		}
		if whole && blank && bytes.HasPrefix(line, []byte("From ")) {
			if err := flush(); err != nil {
				return err
			}
			began = true
		} else if began && len(line) > 0 {
			if whole && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) && line[0] == '>' {
				line = line[1:]
			}
			if message.Len()+len(line) > MaxText {
				long = true
			} else {
				message.Write(line)
			}
		}
		if len(line) > 0 {
			blank = whole && len(bytes.TrimRight(line, "\r\n")) == 0
			whole = line[len(line)-1] == '\n'
		}
		switch {
		case errors.Is(err, io.EOF):
			return flush()
		case err != nil: // the message may be cut short
			return fmt.Errorf("read the mailbox after %d messages: %w", n, err)
		}
	}
}
