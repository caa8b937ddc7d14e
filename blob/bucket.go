// Package blob reads and writes files in a folder or in an S3-compatible bucket. It must not know what they contain.
package blob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Bucket is an object in an S3-compatible bucket, and the objects below its name.
type S3Bucket struct {
	client         *minio.Client
	bucket, object string
}

// requestLimit is the timeout of a request; uploadLimit that of a request with many megabytes.
const (
	requestLimit = 10 * time.Second
	uploadLimit  = 5 * time.Minute
	maxRead      = 16 << 20 // bytes of a file that is read back
)

// OpenS3 opens s3://BUCKET/OBJECT, with ?endpoint=https://HOST for providers other than Amazon, and ?region=. The
// credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the AWS credentials file, or the machine's IAM
// role.
func OpenS3(place string) (*S3Bucket, error) {
	b, err := openS3(place)
	if err == nil && b.object == "" {
		return nil, fmt.Errorf("%.200q is no s3://BUCKET/OBJECT", place)
	}
	return b, err
}

// OpenPrefix opens s3://BUCKET/PREFIX, whose prefix may be empty, as OpenS3 does.
func OpenPrefix(place string) (*S3Bucket, error) { return openS3(place) }

func openS3(place string) (*S3Bucket, error) {
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return nil, fmt.Errorf("%.200q is no s3://BUCKET/…", place)
	}
	endpoint, secure := "s3.amazonaws.com", true
	if given := u.Query().Get("endpoint"); given != "" {
		e, err := url.Parse(given)
		if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" {
			return nil, fmt.Errorf("%.200q is no endpoint: https://HOST", given)
		}
		endpoint, secure = e.Host, e.Scheme == "https"
	}
	client, err := minio.New(endpoint, &minio.Options{Secure: secure, Region: u.Query().Get("region"),
		Creds: credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{},
			&credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: requestLimit}}})})
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", u.Host, err)
	}
	return &S3Bucket{client, u.Host, strings.Trim(u.Path, "/")}, nil
}

func (b *S3Bucket) String() string { return "s3://" + b.bucket + "/" + b.object }

// Load returns the object and its version; both are empty if it does not exist.
func (b *S3Bucket) Load(ctx context.Context) (text, version string, err error) {
	return b.get(ctx, b.object)
}

func (b *S3Bucket) get(ctx context.Context, name string) (text, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	object, err := b.client.GetObject(ctx, b.bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return "", "", err
	}
	defer object.Close()
	info, err := object.Stat()
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	raw, err := io.ReadAll(io.LimitReader(object, maxRead+1))
	if err == nil && len(raw) > maxRead {
		err = fmt.Errorf("it is longer than %d bytes", maxRead)
	}
	return string(raw), info.ETag, err
}

// Object is a file in a bucket.
type Object struct {
	Name string // with the prefix
	ETag string // of its content
	Size int64
}

// URL returns the object's URL: s3://BUCKET/NAME.
func (b *S3Bucket) URL(o Object) string {
	return (&url.URL{Scheme: "s3", Host: b.bucket, Path: "/" + o.Name}).String()
}

// Each calls each with the objects below the prefix in the order of their names, until each returns an error.
func (b *S3Bucket) Each(ctx context.Context, each func(Object) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // which ends the listing
	prefix := b.object
	if prefix != "" {
		prefix += "/"
	}
	for o := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("list %s: %w", b, o.Err)
		}
		if err := each(Object{Name: o.Key, ETag: o.ETag, Size: o.Size}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Get returns an object's content, or ErrChanged if it no longer matches the ETag.
func (b *S3Bucket) Get(ctx context.Context, o Object) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, uploadLimit)
	defer cancel()
	opts := minio.GetObjectOptions{}
	if err := opts.SetMatchETag(o.ETag); err != nil {
		return nil, err
	}
	object, err := b.client.GetObject(ctx, b.bucket, o.Name, opts)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	raw, err := io.ReadAll(io.LimitReader(object, o.Size+1))
	if r := minio.ToErrorResponse(err); r.StatusCode == http.StatusPreconditionFailed || err == nil &&
		int64(len(raw)) != o.Size {
		return nil, ErrChanged
	}
	return raw, err
}

// Swap stores the object if its version is still the given one (empty: if it does not exist) and returns the new
// version, or ErrChanged. The bucket must support conditional writes (If-Match, If-None-Match).
func (b *S3Bucket) Swap(ctx context.Context, version, note string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	opts := minio.PutObjectOptions{ContentType: "text/plain; charset=utf-8", DisableMultipart: true}
	if version == "" {
		opts.SetMatchETagExcept("*")
	} else {
		opts.SetMatchETag(version)
	}
	info, err := b.client.PutObject(ctx, b.bucket, b.object, strings.NewReader(note), int64(len(note)), opts)
	switch r := minio.ToErrorResponse(err); {
	case err == nil:
		return info.ETag, nil
	case r.StatusCode == http.StatusPreconditionFailed || r.StatusCode == http.StatusConflict:
		return "", ErrChanged
	}
	return "", err
}

// Read implements Bucket, for objects below the object's name.
func (b *S3Bucket) Read(ctx context.Context, name string) ([]byte, error) {
	text, version, err := b.get(ctx, b.object+"/"+name)
	if version == "" {
		return nil, err
	}
	return []byte(text), err
}

// Write implements Bucket.
func (b *S3Bucket) Write(ctx context.Context, name string, raw []byte) error {
	ctx, cancel := context.WithTimeout(ctx, uploadLimit)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.bucket, b.object+"/"+name, bytes.NewReader(raw), int64(len(raw)),
		minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	return err
}
