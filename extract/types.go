package extract

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// The supported content types.
const (
	TypeText     = "text/plain"
	TypeMarkdown = "text/markdown"
	TypeRST      = "text/x-rst"
	TypeASCIIDoc = "text/asciidoc"
	TypeHTML     = "text/html"
	TypeCSV      = "text/csv"
	TypeCode     = "text/x-source"
	TypeXML      = "text/xml"
	TypeRTF      = "text/rtf"
	TypeJSON     = "application/json"
	TypeNotebook = "application/x-ipynb+json"
	TypePDF      = "application/pdf"
	TypeWord     = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	TypeSlides   = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
	TypeSheets   = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	TypeODT      = "application/vnd.oasis.opendocument.text"
	TypeODS      = "application/vnd.oasis.opendocument.spreadsheet"
	TypeODP      = "application/vnd.oasis.opendocument.presentation"
	TypeBook     = "application/epub+zip"
	TypeMail     = "message/rfc822"
	TypeMailbox  = "application/mbox"  // contains messages
	TypeZip      = "application/zip"   // contains files
	TypeTar      = "application/x-tar" // contains files
	TypeGzip     = "application/gzip"  // contains one file, which may be a tar
)

// Holds reports whether a content type contains files, which are ingested one by one.
func Holds(contentType string) bool {
	switch contentType {
	case TypeMailbox, TypeZip, TypeTar, TypeGzip:
		return true
	}
	return false
}

// byContent are the types detected by content, whatever the file's name.
var byContent = []string{TypePDF, TypeWord, TypeSlides, TypeSheets, TypeODT, TypeODS, TypeODP, TypeBook, TypeRTF,
	TypeHTML, TypeZip, TypeTar, TypeGzip}

// byName are the types of text files that only the name's extension distinguishes.
var byName = map[string]string{
	".md": TypeMarkdown, ".markdown": TypeMarkdown, ".rst": TypeRST, ".adoc": TypeASCIIDoc, ".asciidoc": TypeASCIIDoc,
	".html": TypeHTML, ".htm": TypeHTML, ".xhtml": TypeHTML, ".csv": TypeCSV, ".tsv": TypeCSV, ".tab": TypeCSV,
	".json": TypeJSON, ".jsonl": TypeJSON, ".ndjson": TypeJSON, ".ipynb": TypeNotebook, ".xml": TypeXML,
	".eml": TypeMail, ".mbox": TypeMailbox, ".mbx": TypeMailbox,
}

// codeNames are the extensions of source code.
const codeNames = " .go .py .js .mjs .ts .tsx .jsx .java .kt .kts .scala .c .h .cc .cpp .cxx .hpp .cs .rs .rb .php " +
	".swift .m .sh .bash .zsh .ps1 .pl .pm .lua .r .jl .sql .hs .ml .ex .exs .erl .clj .dart .groovy .proto .tf " +
	".yaml .yml .toml .ini .css .scss .vue .svelte "

// ErrLegacy means that a file is from an Office before 2007, or encrypted.
var ErrLegacy = errors.New(
	"a file of Office before 2007, or an encrypted one: save it without a password as .docx, .xlsx or .pptx")

// Type returns the content type of a file by its name and first bytes, or ErrKind. Content takes precedence over the
// name, so a wrong name does no harm.
func Type(name string, head []byte) (string, error) {
	ext := strings.ToLower(filepath.Ext(name))
	m := mimetype.Detect(head)
	for _, t := range byContent {
		if m.Is(t) {
			if t == TypeHTML && (ext == ".md" || ext == ".markdown") { // Markdown may begin with HTML
				return TypeMarkdown, nil
			}
			switch t {
			case TypeZip, TypeWord, TypeSlides, TypeSheets:
				return cmp.Or(zipped(head), t), nil
			}
			return t, nil
		}
	}
	if m.Is("application/xhtml+xml") {
		return TypeHTML, nil
	}
	if bytes.HasPrefix(head, []byte("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1")) {
		return "", ErrLegacy
	}
	if looksMail(head) { // mail may have bytes that text does not
		return TypeMail, nil
	}
	text := looksUTF16(head)
	for p := m; p != nil; p = p.Parent() {
		text = text || p.Is(TypeText)
	}
	switch {
	case ext == ".pdf":
		return TypePDF, nil // the PDF reader reports what is wrong with it
	case !text:
		return "", fmt.Errorf("%s: %w", m, ErrKind)
	case bytes.HasPrefix(head, []byte("From ")) && bytes.IndexByte(head, '\n') > 0 &&
		(ext == ".mbox" || ext == ".mbx" || ext == "" || looksMail(head[bytes.IndexByte(head, '\n')+1:])):
		return TypeMailbox, nil
	case byName[ext] != "":
		return byName[ext], nil
	case strings.Contains(codeNames, " "+ext+" ") && ext != "", bytes.HasPrefix(head, []byte("#!")):
		return TypeCode, nil
	case m.Is(TypeJSON), m.Is("application/x-ndjson"), m.Is("application/geo+json"):
		if bytes.Contains(head, []byte(`"nbformat"`)) || bytes.Contains(head, []byte(`"cell_type"`)) {
			return TypeNotebook, nil
		}
		return TypeJSON, nil
	case m.Is(TypeXML), m.Is("application/xml"), m.Parent() != nil && m.Parent().Is(TypeXML):
		return TypeXML, nil
	case ext != ".txt" && ext != "" && (m.Is(TypeCSV) || m.Is("text/tab-separated-values")):
		return TypeCSV, nil
	}
	return TypeText, nil
}

// officeFolders are the folders of the main parts of Office files.
var officeFolders = []struct{ name, kind string }{{"word/", TypeWord}, {"ppt/", TypeSlides}, {"xl/", TypeSheets}}

// zipped detects Office files among ZIP files by the names of their first parts, where the library inspects too few.
// The first part in one of the folders decides: a later one may belong to an embedded file. It returns an empty string
// for other files.
func zipped(head []byte) string {
	if !bytes.Contains(head, []byte("[Content_Types].xml")) {
		return ""
	}
	for rest := head; ; {
		at := bytes.Index(rest, []byte("PK\x03\x04"))
		if at < 0 || len(rest)-at < zipHeader {
			return ""
		}
		rest = rest[at+zipHeader:]
		for _, f := range officeFolders {
			if bytes.HasPrefix(rest, []byte(f.name)) {
				return f.kind
			}
		}
	}
}

// zipHeader is the length of a local file header, which the name follows (APPNOTE.TXT, 4.3.7).
const zipHeader = 30

// looksMail reports whether a file begins with a message's headers.
func looksMail(head []byte) bool {
	known := 0
	for n, l := range bytes.SplitN(head, []byte("\n"), 30) {
		l = bytes.TrimRight(l, "\r")
		if len(l) == 0 {
			break
		}
		if l[0] == ' ' || l[0] == '\t' {
			if n == 0 {
				return false
			}
			continue
		}
		name, _, is := bytes.Cut(l, []byte(":"))
		if !is || bytes.ContainsAny(name, " \t") {
			return false
		}
		switch strings.ToLower(string(name)) {
		case "from", "to", "subject", "date", "message-id", "received", "return-path", "mime-version", "delivered-to",
			"content-type":
			known++
		}
	}
	return known >= 2
}
