package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"htlcdash"
	"htlcdash/internal/title"
)

// An object is a size of sealed bytes to serve.
type object struct {
	name  string
	bytes int // before padding
	count int
}

const gigabyte = 1e9

// wrkSeconds is how long one server is asked in one turn.
const wrkSeconds = 5

// serveBytes has wrk ask the provider and nginx for the same files in turns.
func serveBytes(ctx context.Context, s *stage, r *Report) error {
	objects := []object{{"1 MiB", 1 << 20, 64}, {"100 kB", 98304, 512}}
	var rungs []rung
	for _, o := range objects {
		rungs = append(rungs, noise(strings.ReplaceAll(o.name, " ", ""), o.count, o.bytes))
	}
	s.Progress("publishing a title of large and small segments")
	titles, err := s.made(ctx, "noise", rungs...)
	if err != nil {
		return err
	}
	sold, err := s.serve(ctx, titles)
	if err != nil {
		return err
	}
	dir := filepath.Join(titles, "noise")
	files, err := s.files(ctx, dir)
	if err != nil {
		return err
	}
	t, err := title.OpenDir(dir)
	if err != nil {
		return err
	}
	r.Rounds = s.rounds(5)
	for i, o := range objects {
		segs, err := t.Segments(ctx, rungs[i].id)
		if err != nil {
			return err
		}
		var ours, theirs []string
		for _, seg := range segs {
			ours = append(ours, "/sealed/"+seg.Sealed.String())
			theirs = append(theirs, "/"+htlcdash.SealedPath(seg.Sealed))
		}
		for round := range r.Rounds {
			for _, threads := range []int{1, 2} {
				s.Progress(fmt.Sprintf("round %d of %d: %s, %d threads of wrk", round+1, r.Rounds, o.name, threads))
				key := fmt.Sprintf("%s, wrk -t%d -c8", o.name, threads)
				turns := []func() error{
					func() error { return s.wrk(ctx, r, "ours, "+key, sold, ours, threads) },
					func() error { return s.wrk(ctx, r, "nginx, "+key, files, theirs, threads) },
				}
				for i := range turns {
					if err := turns[(i+round)%len(turns)](); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, o := range objects {
		for _, threads := range []int{1, 2} {
			key := fmt.Sprintf(", %s, wrk -t%d -c8", o.name, threads)
			r.beside("sealed bytes"+key, "MB/s", "ours"+key, "nginx"+key, "nginx", 0.8)
			cpu := Row{What: "  CPU", Unit: "s/GB", Ours: r.median("ours" + key + ", CPU"), Baseline: r.median("nginx" + key + ", CPU"), Of: "nginx", Bound: "<= 1.25"}
			cpu.Ratio = cpu.Ours / cpu.Baseline
			cpu.Verdict = verdict(cpu.Ratio <= 1.25)
			r.add(cpu)
		}
	}
	return nil
}

// script has wrk ask for one path after another, and print bytes, microseconds
// and answers that were none.
const script = `
local paths = { PATHS }
local at = 0
request = function()
	at = at % #paths + 1
	return wrk.format("GET", paths[at])
end
done = function(summary)
	local e = summary.errors
	io.write(string.format("sum %d %d %d\n", summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
`

// wrk asks a server for paths over eight connections, and keeps its rate and
// the processor time that it took.
func (s *stage) wrk(ctx context.Context, r *Report, name string, p *process, paths []string, threads int) error {
	file := filepath.Join(s.dir, "wrk.lua")
	if err := os.WriteFile(file, []byte(strings.Replace(script, "PATHS", `"`+strings.Join(paths, `", "`)+`"`, 1)), 0o600); err != nil {
		return err
	}
	if err := s.quiet(ctx); err != nil {
		return err
	}
	before, err := p.cpu()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "wrk", fmt.Sprintf("-t%d", threads), "-c8", fmt.Sprintf("-d%ds", wrkSeconds), "-s", file, p.url)
	apart(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk: %w: %s", err, out)
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	_, line, found := strings.Cut(string(out), "sum ")
	var bytes, micros, failures float64
	if _, err := fmt.Sscan(line, &bytes, &micros, &failures); err != nil || !found {
		return fmt.Errorf("wrk said %q: %w", out, err)
	}
	if failures > 0 || bytes == 0 {
		return errors.New("wrk got errors: " + string(out))
	}
	r.sample(name, bytes/micros)
	r.sample(name+", CPU", (after-before)/(bytes/gigabyte))
	return nil
}
