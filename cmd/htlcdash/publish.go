package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"unicode"

	"htlcdash"
	"htlcdash/internal/config"
	"htlcdash/internal/publish"
)

type publishCommand struct {
	Source string `arg:"" help:"Film, folder with an MPD, or MPD; or, with --to, a title that is published already, by its name or folder."`
	Name   string `help:"Name of the title, a folder's name; by default that of the source." placeholder:"NAME"`

	Title string `help:"What people call it; by default what the MPD says, or else the file's name made readable." placeholder:"TEXT"`

	Reference   string `help:"Film to measure the quality of a ready DASH folder against." placeholder:"FILE"`
	SkipQuality bool   `help:"Do not measure the quality of the rungs: faster."`
	Force       bool   `help:"Replace another title of this name, also where --to leads."`

	config.Publish `embed:"" envprefix:"HTLCDASH_PUBLISH_"`
	Titles         config.Titles `embed:"" prefix:"titles-" envprefix:"HTLCDASH_TITLES_"`
	Stores         config.Stores `embed:"" prefix:"stores-" envprefix:"HTLCDASH_STORES_"`
}

func (publishCommand) Help() string {
	return "It encodes a film in several qualities, or takes a DASH folder as it is, seals and prices each segment, and signs the title.\n\n" +
		"With --to it copies the public files of the title to a bucket, a Gaia hub or a folder, never its keys; what is there already is not sent again.\n\n" +
		"Example: htlcdash publish film.mp4 --per-megabyte '2 sat'\n\n" +
		"Example: htlcdash publish film --to s3://bucket/film --to gaia://hub.example/film"
}

func (c publishCommand) Run(ctx context.Context, t terminal) error {
	to, err := c.destinations()
	if err != nil {
		return err
	}
	if folder, ok := c.published(); ok {
		if len(to) == 0 {
			return usageError{fmt.Errorf("%s is published already: say by --to where it is to be copied", folder)}
		}
		return c.spread(ctx, t, folder, to)
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	key, made, err := publisherKey(c.Key)
	if err != nil {
		return err
	}
	if made {
		fmt.Fprintf(t.err, "made a publisher's key in %s: keep a copy in a safe place\n", c.Key)
	}
	options.Key = key
	if err := os.MkdirAll(string(c.Titles.Folder), 0o755); err != nil {
		return err
	}
	p := newProgress(t.err)
	p.begin("publishing " + options.Source)
	result, err := publish.Run(ctx, options, func(now publish.Progress) {
		p.at("%3.0f %%, %s", 100*now.Fraction, now.Text)
	})
	if err != nil {
		p.fail()
		return err
	}
	p.end("")
	if err := printTitle(t, options.Out, result); err != nil {
		return err
	}
	return c.spread(ctx, t, options.Out, to)
}

func (c publishCommand) options() (publish.Options, error) {
	rungs, err := parseRungs(c.Rungs)
	if err != nil {
		return publish.Options{}, usageError{err}
	}
	var group publish.Grouping
	if err := group.UnmarshalText([]byte(c.Group)); err != nil {
		return publish.Options{}, usageError{err}
	}
	name := c.Name
	if name == "" {
		name = titleName(c.Source)
	}
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return publish.Options{}, usageError{fmt.Errorf("%q is no name for a title: choose one with --name", name)}
	}
	return publish.Options{
		Source: c.Source,
		Title:  c.Title,
		Out:    filepath.Join(string(c.Titles.Folder), name),
		Price: publish.Policy{
			PerMB: c.PerMegabyte, PerSecond: c.PerSecond, Floor: c.Floor, Rungs: rungs,
		},
		Providers:      c.Providers,
		Sources:        c.Sources,
		Group:          group,
		SegmentSeconds: c.SegmentSeconds,
		Reference:      c.Reference,
		SkipQuality:    c.SkipQuality,
		Force:          c.Force,
	}, nil
}

// parseRungs reads "720p=1.5" and "audio=30 msat/s".
func parseRungs(list []string) (map[string]publish.Rung, error) {
	rungs := map[string]publish.Rung{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("rung %q: want a name, = and a factor or a price, such as \"720p=1.5\"", s)
		}
		var r publish.Rung
		if err := r.UnmarshalText([]byte(value)); err != nil {
			return nil, fmt.Errorf("rung %q: %w", name, err)
		}
		rungs[name] = r
	}
	return rungs, nil
}

// titleName makes a folder's name of a source: "Big Buck (1).mp4" gives
// "big-buck-1".
func titleName(source string) string {
	base := filepath.Base(filepath.Clean(source))
	if strings.EqualFold(filepath.Ext(base), ".mpd") {
		base = filepath.Base(filepath.Dir(filepath.Clean(source)))
	}
	base = strings.TrimSuffix(base, filepath.Ext(base))
	words := strings.FieldsFunc(strings.ToLower(base), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	return strings.Join(words, "-")
}

// publisherKey reads the publisher's key, or makes one; made tells.
func publisherKey(file config.Path) (key htlcdash.PublisherKey, made bool, err error) {
	secret, made, err := secretFile(file)
	if err != nil {
		return key, false, fmt.Errorf("publisher's key: %w", err)
	}
	key, err = htlcdash.NewPublisherKey(secret)
	if err != nil {
		return key, false, errors.New("publisher's key: " + string(file) + " holds no key")
	}
	return key, made, nil
}

func printTitle(t terminal, dir string, r *publish.Result) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "title\t%s\npublisher\t%s\nfolder\t%s\nkeys\t%s (private: not for a web server)\n\n", r.ID, r.Publisher, dir, r.KeysFile)
	fmt.Fprintln(w, "representation\tsegments\tMB\tkeys\tkB per key\tproof\tprice\tdearest key\tquality")
	for _, s := range r.Representations {
		quality := "-"
		if s.Quality > 0 {
			quality = fmt.Sprintf("%.1f dB", float64(s.Quality)/100)
		}
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%d\t%d\t%.0f %%\t%v\t%v\t%s\n", s.ID, s.Segments, float64(s.Bytes)/1e6,
			s.Keys, s.PerKey()/1000, 100*s.ProofShare(), s.Total, s.Dearest, quality)
	}
	fmt.Fprintf(w, "\nproof: what a proof of %d kB for each key adds to the bytes that it opens; see --group\n", publish.ProofSize/1000)
	if r.Unchanged {
		fmt.Fprintln(w, "\nit was there already, byte for byte")
	}
	return w.Flush()
}
