package vole_test

import (
	"crypto/rand"
	"runtime"
	"testing"
	"time"

	"htlcdash/internal/proof"
	"htlcdash/internal/proof/vole"
)

// benchmark runs work for each system and kind. Beside the mean it reports the
// best CPU time of one run, and the length of a proof.
func benchmark(b *testing.B, systems []*vole.System, work func(b *testing.B, s *vole.System, st proof.Statement, w [32]byte) func()) {
	for _, s := range systems {
		for _, c := range cases() {
			b.Run(s.Name()+"/"+c.name, func(b *testing.B) {
				run := work(b, s, c.st, c.w)
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				b.ReportAllocs()
				best := time.Hour
				for b.Loop() {
					start := threadTime()
					run()
					best = min(best, threadTime()-start)
				}
				b.ReportMetric(float64(best.Microseconds()), "best-cpu-us")
				b.ReportMetric(float64(s.Length(c.st.Kind)), "proof-B")
			})
		}
	}
}

func proving(b *testing.B, s *vole.System, st proof.Statement, w [32]byte) func() {
	p := make([]byte, 0, s.Length(st.Kind))
	return func() {
		if _, err := s.Prove(p, rand.Reader, st, w, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func verifying(b *testing.B, s *vole.System, st proof.Statement, w [32]byte) func() {
	p := prove(b, s, st, w, nil)
	return func() {
		if err := s.Verify(st, nil, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProve(b *testing.B)  { benchmark(b, systems, proving) }
func BenchmarkVerify(b *testing.B) { benchmark(b, systems, verifying) }

// The kernel in Go alone, with what AES and SHA-256 the standard library has.

func BenchmarkProvePortable(b *testing.B)  { benchmark(b, portable(), proving) }
func BenchmarkVerifyPortable(b *testing.B) { benchmark(b, portable(), verifying) }

func portable() []*vole.System {
	each := vole.Bits80.OnEachKernel()
	return each[len(each)-1:]
}

// BenchmarkStock is what is left of proving when it is asked for.
func BenchmarkStock(b *testing.B) {
	benchmark(b, systems, func(b *testing.B, s *vole.System, st proof.Statement, w [32]byte) func() {
		p := make([]byte, 0, s.Length(st.Kind))
		stock := s.NewStock(st.Kind, 64)
		return func() {
			if stock.Len() == 0 {
				b.StopTimer()
				for range 64 {
					if _, err := stock.Add(rand.Reader); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
			}
			if _, err := stock.Prove(p, rand.Reader, st, w, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
