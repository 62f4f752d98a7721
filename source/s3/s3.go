// Package s3 is a source and a store in a bucket that speaks the S3 protocol,
// of whatever maker. A title lies below a prefix as in its folder
// (spec/02-title.md). Without credentials it asks as anybody may, which is
// enough for a public bucket.
//
// It lists nothing and deletes nothing: the rights to get and put objects
// suffice.
package s3

import (
	"bytes"
	"context"
	"crypto/md5" // what a bucket's ETag is made of, not for security
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/source"
	"htlcdash/source/web"
)

// A Config says how to reach a bucket.
type Config struct {
	// Endpoint is the URL of the service; empty: https://s3.amazonaws.com.
	Endpoint string
	Region   string // empty: the service is asked
	// Credentials sign requests; nil: nobody's.
	Credentials *credentials.Credentials
}

// Credentials are those of the environment (AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), or else of a profile in a file as
// other tools of the trade have it, or else none: nil. The error is about a file
// that was asked for and cannot be read. It never quotes the file.
func Credentials(file, profile string) (*credentials.Credentials, error) {
	env := credentials.NewEnvAWS()
	if v, err := env.GetWithContext(nil); err == nil && v.AccessKeyID != "" {
		return env, nil
	}
	if file == "" {
		return nil, nil
	}
	if _, err := os.Stat(file); err != nil {
		return nil, nil
	}
	c := credentials.NewFileAWSCredentials(file, profile)
	if v, err := c.GetWithContext(nil); err != nil || v.AccessKeyID == "" {
		return nil, fmt.Errorf("no profile %q with a key in %s", profile, file)
	}
	return c, nil
}

// maxAnswer bounds, in bytes, what is read of an answer that is no object, or of
// one beyond the object that is asked for. The client of the protocol reads
// such answers to their end.
const maxAnswer = 1 << 20

// expected is the key of what a request's context says of the length of the
// object.
type expected struct{}

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	length, _ := r.Context().Value(expected{}).(int64)
	resp.Body = &boundedBody{resp.Body, length + maxAnswer}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("an answer without end: %w", htlcdash.ErrCorrupt)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// A Bucket is what lies below a prefix of a bucket. It implements source.Source,
// source.Prober and source.Store.
type Bucket struct {
	core   minio.Core
	bucket string
	prefix string // empty, or ends with a slash
	open   bool   // asked without credentials
}

// New returns the place below prefix in bucket. It asks nobody yet.
func New(bucket, prefix string, c Config) (*Bucket, error) {
	if c.Endpoint == "" {
		c.Endpoint = "https://s3.amazonaws.com"
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("endpoint of S3: want a URL such as https://s3.example") // what was given may hold a password
	}
	b := &Bucket{bucket: bucket, prefix: strings.Trim(prefix, "/"), open: c.Credentials == nil}
	if b.prefix != "" {
		b.prefix += "/"
	}
	if b.open {
		c.Credentials = credentials.NewStaticV4("", "", "")
		if c.Region == "" { // strangers are not told
			c.Region = "us-east-1"
		}
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: c.Credentials, Secure: u.Scheme == "https", Region: c.Region,
		Transport:  bounded{web.NewTransport()},
		MaxRetries: 1, // a library asks elsewhere, a publisher tries again itself
	})
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", bucket, err)
	}
	b.core = minio.Core{Client: client}
	return b, nil
}

func (b *Bucket) String() string {
	return strings.TrimSuffix(b.core.EndpointURL().String(), "/") + "/" + b.bucket + "/" + b.prefix
}

func (b *Bucket) key(file string) string { return b.prefix + path.Clean(file) }

// Open implements source.Source.
func (b *Bucket) Open(ctx context.Context, blob htlcdash.Blob) (io.ReadCloser, error) {
	body, info, err := b.get(ctx, htlcdash.SealedPath(blob.Root), blob.Length)
	if err != nil {
		return nil, err
	}
	if info.Size != blob.Length {
		body.Close()
		return nil, fmt.Errorf("object of %d bytes, want %d: %w", info.Size, blob.Length, htlcdash.ErrCorrupt)
	}
	return body, nil
}

// Has implements source.Prober.
func (b *Bucket) Has(ctx context.Context, blob htlcdash.Blob) error {
	info, err := b.Stat(ctx, htlcdash.SealedPath(blob.Root))
	if err == nil && info.Length != blob.Length {
		err = fmt.Errorf("object of %d bytes, want %d: %w", info.Length, blob.Length, htlcdash.ErrCorrupt)
	}
	return err
}

func (b *Bucket) get(ctx context.Context, file string, length int64) (io.ReadCloser, minio.ObjectInfo, error) {
	ctx = context.WithValue(ctx, expected{}, length)
	var o minio.GetObjectOptions
	o.Set("Accept-Encoding", "identity")
	body, info, header, err := b.core.GetObject(ctx, b.bucket, b.key(file), o)
	if err != nil {
		return nil, info, b.explain(ctx, err)
	}
	if e := header.Get("Content-Encoding"); e != "" && e != "identity" && e != "aws-chunked" {
		body.Close()
		return nil, info, fmt.Errorf("content encoding %q was not asked for: %w", e, htlcdash.ErrCorrupt)
	}
	return body, info, nil
}

// Stat implements source.Store. The ETag of an object that was put at one go,
// not encrypted with a key of one's own, is its MD5.
func (b *Bucket) Stat(ctx context.Context, file string) (source.Info, error) {
	info, err := b.core.StatObject(ctx, b.bucket, b.key(file), minio.StatObjectOptions{})
	if err != nil {
		return source.Info{}, b.explain(ctx, err)
	}
	out := source.Info{Length: info.Size}
	if sum, err := hex.DecodeString(info.ETag); err == nil && len(sum) == md5.Size {
		out.MD5 = strings.ToLower(info.ETag)
	}
	return out, nil
}

// Get implements source.Store.
func (b *Bucket) Get(ctx context.Context, file string, limit int64) ([]byte, error) {
	body, info, err := b.get(ctx, file, limit)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if info.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %w", file, info.Size, limit, htlcdash.ErrCorrupt)
	}
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes: %w", file, limit, htlcdash.ErrCorrupt)
	}
	return data, err
}

// Put implements source.Store, by a conditional write where nothing may be
// replaced.
func (b *Bucket) Put(ctx context.Context, file string, data []byte, replace bool) error {
	// The sum of the whole is signed, since there is one. A body that is signed in
	// chunks leaves its encoding with the object, at some services.
	o := minio.PutObjectOptions{ContentType: source.ContentType(file), DisableContentSha256: true}
	if !replace {
		o.SetMatchETagExcept("*")
	}
	md, sha := md5.Sum(data), sha256.Sum256(data)
	_, err := b.core.PutObject(ctx, b.bucket, b.key(file), bytes.NewReader(data), int64(len(data)),
		base64.StdEncoding.EncodeToString(md[:]), hex.EncodeToString(sha[:]), o)
	if err != nil {
		return b.explain(ctx, err)
	}
	return nil
}

// explain turns what the service says into what callers decide on, and adds the
// next step where there is one.
func (b *Bucket) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return err
	}
	switch {
	case answer.Code == minio.NoSuchKey:
		return htlcdash.ErrNotFound
	case answer.StatusCode == http.StatusPreconditionFailed, answer.StatusCode == http.StatusConflict && answer.Code != "OperationAborted":
		return fmt.Errorf("%s: %w", answer.Key, source.ErrExists)
	case answer.Code == minio.NoSuchBucket:
		return fmt.Errorf("there is no bucket %q at %s: make it, or name another endpoint by stores.s3_endpoint: %w", b.bucket, b.core.EndpointURL(), source.ErrRefused)
	case answer.StatusCode == http.StatusForbidden && b.open:
		return fmt.Errorf("bucket %q wants credentials (%s): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or stores.s3_credentials: %w", b.bucket, answer.Code, source.ErrRefused)
	case answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("bucket %q refuses these credentials (%s): %w", b.bucket, answer.Code, source.ErrRefused)
	}
	return fmt.Errorf("bucket %q: %d %s", b.bucket, answer.StatusCode, answer.Code)
}
