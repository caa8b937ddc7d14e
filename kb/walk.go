package kb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/konstruct/konstruct/blob"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/fetch"
)

// errStop stops a walk: the receiver wants no more files.
var errStop = errors.New("stop")

// walk yields the files that paths name and hold, until yield returns false.
func (in *Ingester) walk(ctx context.Context, names []string, yield func(file, error) bool) {
	if only, all := in.Only, yield; only != nil {
		yield = func(f file, err error) bool { return !only(f.path) || all(f, err) }
	}
	for _, path := range names {
		var more bool
		switch {
		case isURL(path):
			f, err := in.page(path)
			more = yield(f, err)
		case strings.HasPrefix(path, "s3://"):
			more = in.bucketFiles(ctx, path, yield)
		default:
			more = walkDisk(path, in.FollowLinks, yield)
		}
		if !more {
			return
		}
	}
}

// page is a file that a site has.
func (in *Ingester) page(url string) (file, error) {
	f := file{path: url, url: url, named: true}
	if in.Fetcher == nil {
		return f, errors.New("pages are not read here")
	}
	f.get = func(ctx context.Context, etag string) ([]byte, string, error) {
		p, err := in.Fetcher.Get(ctx, url, etag, extract.MaxPDF)
		if errors.Is(err, fetch.ErrUnchanged) {
			err = errSameContent
		}
		return p.Raw, p.ETag, err
	}
	return f, nil
}

// bucketFiles yields the objects below a place in a bucket.
func (*Ingester) bucketFiles(ctx context.Context, place string, yield func(file, error) bool) bool {
	b, err := blob.OpenPrefix(place)
	if err != nil {
		return yield(file{path: place, url: place, named: true}, err)
	}
	err = b.Each(ctx, func(o blob.Object) error {
		if strings.HasSuffix(o.Name, "/") { // a folder, as some tools write it
			return nil
		}
		for part := range strings.SplitSeq(o.Name, "/") {
			if strings.HasPrefix(part, ".") {
				return nil
			}
		}
		f := file{path: b.URL(o), url: b.URL(o)}
		f.get = func(ctx context.Context, etag string) ([]byte, string, error) {
			if etag == o.ETag {
				return nil, "", errSameContent
			}
			if o.Size > extract.MaxPDF {
				return nil, "", fmt.Errorf("%w: %d bytes, the limit is %d", extract.ErrTooLarge, o.Size, extract.MaxPDF)
			}
			raw, err := b.Get(ctx, o)
			return raw, o.ETag, err
		}
		if !yield(f, nil) {
			return errStop
		}
		return nil
	})
	if err == nil || errors.Is(err, errStop) || ctx.Err() != nil {
		return err == nil
	}
	return yield(file{path: place, url: place, named: true}, err)
}

// CountFiles is how many files paths name and hold on this machine, for a progress bar.
func CountFiles(paths []string, followLinks bool) (n int) {
	for _, p := range paths {
		if isURL(p) || strings.HasPrefix(p, "s3://") {
			n++
			continue
		}
		walkDisk(p, followLinks, func(file, error) bool { n++; return true })
	}
	return n
}
