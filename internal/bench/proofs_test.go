package bench_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htlcdash/internal/bench"
)

// zkboo makes a folder with programs that print what ZKBoo's do.
func zkboo(t *testing.T, verifier string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range map[string]string{
		"MPC_SHA256":          `read -r line; test "$OMP_NUM_THREADS" = 1; echo "Iterations of SHA: 219"; printf '\tCommitting: 1\n'; echo "Writing file: 2"; echo "Total: 33"; printf 12345 > out219.bin`,
		"MPC_SHA256_VERIFIER": verifier,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh -e\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const accepting = `echo "Proof for hash: B94D27"; echo "Loading files: 1"; echo "Total time: 26"`

func TestProofsBesideZKBoo(t *testing.T) {
	t.Setenv("HTLCDASH_ZKBOO", zkboo(t, accepting))
	r, err := bench.Proofs(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	beside := 0
	for _, row := range r.Rows {
		if row.Ours <= 0 {
			t.Errorf("%+v", row)
		}
		if row.Of == "" {
			continue
		}
		beside++
		if row.Of != "ZKBoo in C, 219 rounds" {
			t.Errorf("beside %q", row.Of)
		}
		if want := []float64{31, 25, 0.005}; row.Baseline != want[(beside-1)%3] {
			t.Errorf("%s: baseline %v, want one of %v", row.What, row.Baseline, want)
		}
	}
	if beside != 6 {
		t.Errorf("%d rows have a baseline, want those of the two systems of 128 bits with a preimage: %+v", beside, r.Rows)
	}
}

func TestProofsAlone(t *testing.T) {
	t.Setenv("HTLCDASH_ZKBOO", "")
	r, err := bench.Proofs(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows {
		if row.Of != "" {
			t.Errorf("a baseline from nowhere: %+v", row)
		}
	}
	if !strings.Contains(strings.Join(r.Notes, "\n"), "ZKBoo in C is not measured: HTLCDASH_ZKBOO names no folder") {
		t.Errorf("the notes do not say that ZKBoo is missing: %q", r.Notes)
	}
}

func TestZKBooThatIsNone(t *testing.T) {
	silent := zkboo(t, accepting)
	if err := os.WriteFile(filepath.Join(silent, "MPC_SHA256"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ folder, want string }{
		"no programs":       {t.TempDir(), "build ZKBoo there, or unset it"},
		"other programs":    {silent, "does not say its rounds"},
		"refuses its proof": {zkboo(t, "echo Not Verified 7"), "refuses its own proof: Not Verified 7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTLCDASH_ZKBOO", c.folder)
			if _, err := bench.Proofs(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
