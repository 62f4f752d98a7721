package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"htlcdash"
	"htlcdash/internal/publish"
)

// sealSeconds is how long each turn of a cipher or hash takes.
const sealSeconds = 2

// publishing seals in turns with openssl's ciphers and hashes on one core, then
// publishes a ready folder, and the film.
func publishing(ctx context.Context, s *stage, r *Report) error {
	plain, err := noise("seal", 1, 1<<20).segment(0)
	if err != nil {
		return err
	}
	r.Rounds = s.rounds(5)
	for round := range r.Rounds {
		if err := s.quiet(ctx); err != nil {
			return err
		}
		s.Progress(fmt.Sprintf("round %d of %d: sealing, openssl", round+1, r.Rounds))
		aes, err := openssl(ctx, "aes-256-ctr")
		if err != nil {
			return err
		}
		r.sample("seal", sealing(plain))
		sha, err := openssl(ctx, "sha256")
		if err != nil {
			return err
		}
		r.sample("openssl aes-256-ctr", aes)
		r.sample("openssl sha256", sha)
		r.sample("openssl, both", 1/(1/aes+2/sha))
	}
	r.beside("seal and hash 1 MiB segments, one core", "MB/s", "seal", "openssl, both", "openssl: AES once, SHA-256 twice", 0.8)
	r.fact("  openssl aes-256-ctr", "MB/s", r.median("openssl aes-256-ctr"))
	r.fact("  openssl sha256", "MB/s", r.median("openssl sha256"))
	if err := s.publishFolder(ctx, r); err != nil {
		return err
	}
	return s.publishFilm(ctx, r)
}

// sealing is how many MB/s one core seals.
func sealing(plain []byte) float64 {
	var buf []byte
	began, n := time.Now(), 0
	for time.Since(began) < sealSeconds*time.Second {
		buf, _, _ = htlcdash.SealTo(buf, []byte("secret"), plain)
		n += len(plain)
	}
	return float64(n) / 1e6 / time.Since(began).Seconds()
}

// openssl is how many MB/s one core does of blocks of 16 KiB.
func openssl(ctx context.Context, algorithm string) (float64, error) {
	cmd := exec.CommandContext(ctx, "openssl", "speed", "-elapsed", "-mr", "-seconds", strconv.Itoa(sealSeconds), "-bytes", "16384", "-evp", algorithm)
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("openssl speed: %w", err)
	}
	// +F:22:AES-256-CTR:2854912000.00, in bytes a second
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); f[0] == "+F" {
			v, err := strconv.ParseFloat(f[len(f)-1], 64)
			return v / 1e6, err
		}
	}
	return 0, fmt.Errorf("openssl speed said %q", out)
}

// folderBytes is the size of the ready folder that is published.
const folderBytes = 256 << 20

// publishFolder measures all that publishing a ready folder does: reading,
// sealing on all cores, writing, and waiting for the disk.
func (s *stage) publishFolder(ctx context.Context, r *Report) error {
	source := filepath.Join(s.dir, "ready")
	if err := folder(source, []rung{noise("v", folderBytes>>20, 1<<20)}, nil); err != nil {
		return err
	}
	for range r.Rounds {
		if err := s.quiet(ctx); err != nil {
			return err
		}
		s.Progress("publishing a ready folder of 256 MiB")
		out := filepath.Join(s.dir, "ready-title")
		began := time.Now()
		if _, err := s.publish(ctx, source, out, publish.Grouping{}, nil); err != nil {
			return err
		}
		r.sample("publish folder", folderBytes/1e6/time.Since(began).Seconds())
		if err := os.RemoveAll(out); err != nil {
			return err
		}
	}
	r.fact("publish a ready folder: read, seal, write, sync; all cores", "MB/s", r.median("publish folder"))
	return nil
}

// publishFilm measures the steps from the film to the title, by what publish
// says that it does.
func (s *stage) publishFilm(ctx context.Context, r *Report) error {
	var mu sync.Mutex
	var order []string
	began := map[string]time.Time{}
	if err := s.quiet(ctx); err != nil {
		return err
	}
	s.Progress("publishing the film")
	start := time.Now()
	result, err := s.publish(ctx, s.Film, filepath.Join(s.dir, "film-title"), publish.Grouping{Auto: true}, func(p publish.Progress) {
		step, _, _ := strings.Cut(p.Text, " ")
		mu.Lock()
		defer mu.Unlock()
		if began[step].IsZero() {
			began[step] = time.Now()
			order = append(order, step)
		}
	})
	if err != nil {
		return err
	}
	total := time.Since(start).Seconds()
	r.fact(fmt.Sprintf("publish the film in %d qualities", len(result.Representations)), "s", total)
	for i, step := range order {
		end := start.Add(time.Duration(total * float64(time.Second)))
		if i+1 < len(order) {
			end = began[order[i+1]]
		}
		r.fact("  "+step, "s", end.Sub(began[step]).Seconds())
	}
	return nil
}
