package notary

import (
	"context"
	"errors"

	"github.com/konstruct/konstruct/shelf"
)

// Bucket is a copy in an S3-compatible bucket that has conditional writes (If-Match, If-None-Match), and keys
// that the database's administrator does not hold.
type Bucket struct{ object *shelf.Bucket }

// OpenBucket reads s3://BUCKET/OBJECT as shelf.OpenBucket does.
func OpenBucket(place string) (*Bucket, error) {
	b, err := shelf.OpenBucket(place)
	return &Bucket{b}, err
}

func (b *Bucket) String() string { return b.object.String() }

// Load implements Outside.
func (b *Bucket) Load(ctx context.Context) (note, version string, err error) {
	return b.object.Load(ctx)
}

// Swap implements Outside.
func (b *Bucket) Swap(ctx context.Context, version, note string) (string, error) {
	version, err := b.object.Swap(ctx, version, note)
	if errors.Is(err, shelf.ErrChanged) {
		err = ErrChanged
	}
	return version, err
}
