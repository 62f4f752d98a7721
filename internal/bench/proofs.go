package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/systems"
)

// proofs has all systems prove and verify both kinds of statements in turns, and the programs of ZKBoo
// where there are any. A figure is the best of all turns: it is the processor's
// time, which others that use the machine can only make worse.
func proofs(ctx context.Context, s *stage, r *Report) error {
	if err := s.quiet(ctx); err != nil {
		return err
	}
	return s.proveInTurns(ctx, r)
}

func (s *stage) proveInTurns(ctx context.Context, r *Report) error {
	jobs := proofJobs(systems.All())
	peers, err := zkbooPeers(ctx, os.Getenv(zkbooVariable))
	if err != nil {
		return err
	}
	r.Rounds = s.rounds(25)
	for round := range r.Rounds {
		s.Progress(fmt.Sprintf("round %d of %d: proving and verifying", round+1, r.Rounds))
		for i := range jobs {
			if err := jobs[i].turn(r); err != nil {
				return err
			}
		}
		for _, p := range peers {
			if err := p.turn(ctx, s.dir, r); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	proofRows(r, jobs, peers)
	return nil
}

// proofRows compares a proof of a preimage with the program of as many bits.
func proofRows(r *Report, jobs []proofJob, peers []zkboo) {
	best := func(name string) float64 { return slices.Min(r.Samples[name]) }
	for _, j := range jobs {
		var peer *zkboo
		for i := range peers {
			if j.st.Kind == proof.Preimage && strings.HasSuffix(j.system.Name(), fmt.Sprintf("-%d", peers[i].bits())) {
				peer = &peers[i]
			}
		}
		for i, what := range []string{"prove", "verify", "proof"} {
			row := Row{What: "  " + what, Unit: []string{"ms", "ms", "kB"}[i], Ours: best(j.name() + ", " + what)}
			if i == 0 {
				row.What = j.name() + ": prove"
			}
			if peer != nil {
				row.Baseline, row.Of = best(peer.name()+", "+what), peer.name()
				row.Ratio = row.Ours / row.Baseline
			}
			r.add(row)
		}
	}
	r.note("best of %d rounds; %s", r.Rounds, threadClock)
	if len(peers) == 0 {
		r.note("ZKBoo in C is not measured: %s names no folder with its programs %s and %s", zkbooVariable, zkbooProver, zkbooVerifier)
	} else {
		r.note("ZKBoo's times are what its programs say of themselves, in whole ms rounded down, without files; they start anew each time, ours run on")
	}
}

// A proofJob is one system with one statement.
type proofJob struct {
	system proof.System
	kind   string // for people
	st     proof.Statement
	w      [32]byte
	proof  []byte
}

func proofJobs(systems []proof.System) (jobs []proofJob) {
	for _, s := range systems {
		var w, salt, salted [32]byte
		rand.Read(w[:])
		rand.Read(salt[:])
		subtle.XORBytes(salted[:], w[:], salt[:])
		jobs = append(
			jobs,
			proofJob{system: s, kind: "preimage", st: proof.PreimageOf(sha256.Sum256(w[:])), w: w},
			proofJob{system: s, kind: "link of key and payment", st: proof.LinkOf(sha256.Sum256(w[:]), salt, sha256.Sum256(salted[:])), w: w},
		)
	}
	return jobs
}

func (j *proofJob) name() string { return j.system.Name() + ", " + j.kind }

// turn proves and verifies once.
func (j *proofJob) turn(r *Report) (err error) {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	context := []byte("htlcdash bench proofs")
	began := threadTime()
	if j.proof, err = j.system.Prove(j.proof[:0], rand.Reader, j.st, j.w, context); err != nil {
		return fmt.Errorf("%s: %w", j.name(), err)
	}
	proved := threadTime()
	if err := j.system.Verify(j.st, context, j.proof); err != nil {
		return fmt.Errorf("%s: %w", j.name(), err)
	}
	verified := threadTime()
	r.sample(j.name()+", prove", float64(proved-began)/float64(time.Millisecond))
	r.sample(j.name()+", verify", float64(verified-proved)/float64(time.Millisecond))
	r.sample(j.name()+", proof", float64(len(j.proof))/1e3)
	return nil
}

// ZKBoo's reference, github.com/Sobuno/ZKBoo, is a peer for speed only: its
// verifier accepts false proofs. It is no part of this project. Who has built
// its programs for SHA-256 names their folder, or folders for builds of other
// numbers of rounds, in this variable.
const (
	zkbooVariable = "HTLCDASH_ZKBOO"
	zkbooProver   = "MPC_SHA256"
	zkbooVerifier = "MPC_SHA256_VERIFIER"
)

// zkboo is a build of its two programs.
type zkboo struct {
	folder string
	rounds int
}

func (z zkboo) name() string { return fmt.Sprintf("ZKBoo in C, %d rounds", z.rounds) }

// bits are those of its soundness, (2/3)^rounds.
func (z zkboo) bits() int { return int(math.Round(float64(z.rounds) * math.Log2(1.5))) }

// zkbooPeers finds the programs in a list of folders, and asks each for how
// many rounds it is built.
func zkbooPeers(ctx context.Context, list string) (peers []zkboo, err error) {
	for _, folder := range filepath.SplitList(list) {
		if folder, err = filepath.Abs(folder); err != nil {
			return nil, err
		}
		for _, program := range []string{zkbooProver, zkbooVerifier} {
			if _, err := os.Stat(filepath.Join(folder, program)); err != nil {
				return nil, fmt.Errorf("%s: %w: build ZKBoo there, or unset it", zkbooVariable, err)
			}
		}
		dir, err := os.MkdirTemp("", "zkboo-")
		if err != nil {
			return nil, err
		}
		said, err := zkboo{folder: folder}.run(ctx, dir, zkbooProver)
		err = errors.Join(err, os.RemoveAll(dir))
		rounds := int(said["Iterations of SHA"])
		if err != nil || rounds == 0 {
			return nil, fmt.Errorf("%s in %s does not say its rounds: %w", zkbooProver, folder, err)
		}
		peers = append(peers, zkboo{folder, rounds})
	}
	return peers, nil
}

// turn proves and verifies once, by way of a file.
func (z zkboo) turn(ctx context.Context, dir string, r *Report) error {
	proved, err := z.run(ctx, dir, zkbooProver)
	if err != nil {
		return err
	}
	verified, err := z.run(ctx, dir, zkbooVerifier)
	if err != nil {
		return err
	}
	file, err := os.Stat(filepath.Join(dir, fmt.Sprintf("out%d.bin", z.rounds)))
	if err != nil {
		return err
	}
	r.sample(z.name()+", prove", proved["Total"]-proved["Writing file"])
	r.sample(z.name()+", verify", verified["Total time"]-verified["Loading files"])
	r.sample(z.name()+", proof", float64(file.Size())/1e3)
	return nil
}

// run runs a program with one thread for a message of 32 bytes, and returns the
// numbers that it prints.
func (z zkboo) run(ctx context.Context, dir, program string) (said map[string]float64, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(z.folder, program))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	cmd.Stdin = strings.NewReader("a message that has 32 characters\n")
	apart(cmd)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	said = map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			said[strings.TrimSpace(name)] = n
		}
		if strings.HasPrefix(name, "Not Verified") {
			return nil, fmt.Errorf("%s refuses its own proof: %s", program, lines.Text())
		}
	}
	return said, nil
}
