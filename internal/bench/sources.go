package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"htlcdash"
	"htlcdash/internal/porter"
	"htlcdash/internal/spread"
	"htlcdash/internal/title"
	"htlcdash/source"
	"htlcdash/source/dir"
	"htlcdash/source/gaia"
	"htlcdash/source/gaia/gaiatest"
	"htlcdash/source/s3"
	"htlcdash/source/torrent"
	"htlcdash/source/web"
)

// A place is one that a title's sealed bytes are fetched from.
type place struct {
	name string
	open func(ctx context.Context, s *stage, titles, dir string) (source.Source, error)
}

// places lists what is compared; the first is what the others are compared with.
var places = []place{
	{"folder", func(_ context.Context, _ *stage, _, folder string) (source.Source, error) { return dir.New(folder) }},
	{"plain HTTP (nginx)", func(ctx context.Context, s *stage, _, folder string) (source.Source, error) {
		p, err := s.files(ctx, folder)
		if err != nil {
			return nil, err
		}
		return web.New(p.url, nil)
	}},
	{"S3 (versitygw)", bucketOf},
	{"Gaia (hub in memory)", hubOf},
	{"provider", func(ctx context.Context, s *stage, titles, _ string) (source.Source, error) {
		p, err := s.serve(ctx, titles, "--stranger-bytes", "0")
		if err != nil {
			return nil, err
		}
		return web.New(p.url, nil)
	}},
	{"BitTorrent peer", swarmOf},
}

// swarmOf seeds a title from a provider, and joins it.
func swarmOf(ctx context.Context, s *stage, titles, folder string) (source.Source, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	books := filepath.Join(s.dir, "seed.db") // beside the provider above
	if _, err := s.serve(ctx, titles, "--seed", address, "--ledger", books); err != nil {
		return nil, err
	}
	swarms, err := torrent.New(torrent.Options{Peers: []string{address}, Patience: time.Minute})
	if err != nil {
		return nil, err
	}
	s.inside = append(s.inside, swarms.Close)
	return swarms, addTorrents(ctx, swarms, folder)
}

// addTorrents makes the segments of a title known to a client.
func addTorrents(ctx context.Context, swarms *torrent.Client, folder string) error {
	t, err := title.OpenDir(folder)
	if err != nil {
		return err
	}
	for _, rep := range t.Manifest.Representations() {
		blobs, err := blobsOf(ctx, t, rep.ID)
		if err != nil {
			return err
		}
		err = swarms.Add(torrent.Torrent{InfoHash: rep.Pay.InfoHash, Blobs: func() ([]htlcdash.Blob, bool) { return blobs, true }})
		if err != nil {
			return err
		}
	}
	return nil
}

func blobsOf(ctx context.Context, t *title.Title, rep string) ([]htlcdash.Blob, error) {
	segs, err := t.Segments(ctx, rep)
	blobs := make([]htlcdash.Blob, len(segs))
	for i, seg := range segs {
		blobs[i] = seg.SealedBlob()
	}
	return blobs, err
}

// fetches is how often each source gives a segment in one round.
const fetches = 200

// sources fetches the same segments of 1 MiB from each kind of place, by turns,
// through a library that keeps nothing and checks all.
func sources(ctx context.Context, s *stage, r *Report) error {
	s.Progress("publishing a title of segments of 1 MiB")
	titles, err := s.made(ctx, "mebibytes", noise("1MiB", 64, 1<<20))
	if err != nil {
		return err
	}
	folder := filepath.Join(titles, "mebibytes")
	t, err := title.OpenDir(folder)
	if err != nil {
		return err
	}
	segs, err := t.Segments(ctx, "1MiB")
	if err != nil {
		return err
	}
	var libraries []*source.Library
	for _, p := range places {
		s.Progress("opening " + p.name)
		from, err := p.open(ctx, s, titles, folder)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		l, err := source.NewLibrary(source.Options{}, from)
		if err != nil {
			return err
		}
		libraries = append(libraries, l)
	}
	r.Rounds = s.rounds(3)
	for round := range r.Rounds {
		s.Progress(fmt.Sprintf("round %d of %d", round+1, r.Rounds))
		for n := range fetches {
			b := segs[n%len(segs)].SealedBlob()
			for i := range libraries {
				i = (i + n) % len(libraries)
				began := time.Now()
				if _, err := libraries[i].Get(ctx, b); err != nil {
					return fmt.Errorf("%s: %w", places[i].name, err)
				}
				if n >= len(segs) { // once round to warm up
					r.sample(places[i].name, float64(time.Since(began))/1e6)
				}
			}
		}
	}
	base := places[0].name
	for _, p := range places {
		for _, q := range []struct {
			name string
			at   float64
		}{{p.name + ", p50", 0.5}, {"  p95", 0.95}} {
			row := Row{What: q.name, Unit: "ms", Ours: quantile(r.Samples[p.name], q.at)}
			if p.name != base {
				row.Baseline, row.Of = quantile(r.Samples[base], q.at), base
				row.Ratio = row.Ours / row.Baseline
			}
			r.add(row)
		}
	}
	r.note("one segment of 1 MiB, whole and checked against its root; one at a time, all on this machine")
	return nil
}

// bucketOf copies the title to a bucket of versitygw.
func bucketOf(ctx context.Context, s *stage, _, folder string) (source.Source, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	const key, secret = "bench", "bench-secret"
	gateway, err := lookPath(s.Gateway)
	if err != nil {
		return nil, fmt.Errorf("%s is missing: run make versitygw", s.Gateway)
	}
	root := filepath.Join(s.dir, "buckets")
	if err := os.Mkdir(root, 0o700); err != nil {
		return nil, err
	}
	_, err = s.launch(ctx, "versitygw", "http://"+address, "/health", gateway, "--access", key, "--secret", secret,
		"--health", "/health", "--port", address, "--quiet", "posix", root)
	if err != nil {
		return nil, err
	}
	credentials := credentials.NewStaticV4(key, secret, "")
	client, err := minio.New(address, &minio.Options{Creds: credentials, Region: "us-east-1"})
	if err != nil {
		return nil, err
	}
	if err := client.MakeBucket(ctx, "films", minio.MakeBucketOptions{}); err != nil {
		return nil, err
	}
	bucket, err := s3.New("films", "", s3.Config{Endpoint: "http://" + address, Region: "us-east-1", Credentials: credentials})
	if err != nil {
		return nil, err
	}
	_, err = spread.Run(ctx, folder, bucket, spread.Options{})
	return bucket, err
}

// hubOf copies the title to a Gaia hub in this process.
func hubOf(ctx context.Context, s *stage, _, folder string) (source.Source, error) {
	hub := &gaiatest.Hub{}
	reader, err := s.listen(ctx, hub.Reader())
	if err != nil {
		return nil, err
	}
	writer, err := s.listen(ctx, hub.Writer())
	if err != nil {
		return nil, err
	}
	hub.ReadURL = reader + "/"
	key, err := gaia.NewKey([32]byte{31: 1})
	if err != nil {
		return nil, err
	}
	place, err := gaia.NewWriter(writer, "", key)
	if err != nil {
		return nil, err
	}
	_, err = spread.Run(ctx, folder, place, spread.Options{})
	return place, err
}

// listen serves h in this process until the stage is closed.
func (s *stage) listen(ctx context.Context, h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- porter.Serve(ctx, l, &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}, time.Second)
	}()
	s.inside = append(s.inside, func() error {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	return "http://" + l.Addr().String(), nil
}
