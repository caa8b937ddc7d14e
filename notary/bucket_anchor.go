package notary

import (
	"context"
	"errors"

	"github.com/konstruct/konstruct/blob"
)

// BucketAnchor is an anchor in an S3-compatible bucket with conditional writes (If-Match, If-None-Match). Its
// credentials should be ones that the database's administrator does not have.
type BucketAnchor struct{ object *blob.S3Bucket }

// OpenBucketAnchor opens an anchor by its address, s3://BUCKET/OBJECT, as blob.OpenS3 does.
func OpenBucketAnchor(place string) (*BucketAnchor, error) {
	b, err := blob.OpenS3(place)
	return &BucketAnchor{b}, err
}

func (b *BucketAnchor) String() string { return b.object.String() }

// Load implements Anchor.
func (b *BucketAnchor) Load(ctx context.Context) (note, version string, err error) {
	return b.object.Load(ctx)
}

// Swap implements Anchor.
func (b *BucketAnchor) Swap(ctx context.Context, version, note string) (string, error) {
	version, err := b.object.Swap(ctx, version, note)
	if errors.Is(err, blob.ErrChanged) {
		err = ErrChanged
	}
	return version, err
}
