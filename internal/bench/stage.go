package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"htlcdash/internal/devnet"
	"htlcdash/lightning"
	"htlcdash/lightning/lnd"
)

// Names of the private network's nodes.
const (
	viewer   = "viewer" // one channel from the provider
	remote   = "remote" // a viewer, two channels from the provider
	router   = "router"
	provider = "provider"
)

// A stage is a market on this machine, for one measurement.
type stage struct {
	Config
	dir     string // of this run
	running []*process
	network *devnet.Network
	nodes   map[string]*lnd.Node // with all rights

	inside []func() error // end what is served in this process

	disturbed int // times that no quiet moment came
}

// million satoshi, what channels here hold about.
const million = 1_000_000 * lightning.Sat

// newStage starts what a measurement needs. The caller closes it.
func newStage(ctx context.Context, c Config, nodes bool) (_ *stage, err error) {
	s := &stage{Config: c, nodes: map[string]*lnd.Node{}}
	if s.Folder, err = filepath.Abs(c.Folder); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Folder, 0o755); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp(s.Folder, "run-"); err != nil {
		return nil, err
	}
	if !nodes {
		return s, nil
	}
	if err := s.startNetwork(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// startNetwork has databases as the demo has them: one that settles a single
// payment quickly for viewers, one that carries many for the provider.
func (s *stage) startNetwork(ctx context.Context) (err error) {
	s.Progress("starting a private network of four nodes")
	s.network, err = devnet.Start(ctx, devnet.Config{
		Dir: filepath.Join(s.dir, "network"),
		Nodes: []devnet.NodeSpec{
			{Name: viewer, SQLite: true, Fund: 40 * million},
			{Name: remote, SQLite: true, Fund: 40 * million},
			{Name: router, Fund: 40 * million, BaseFee: 100, FeeRate: 100},
			{Name: provider},
		},
		Channels: []devnet.ChannelSpec{
			{From: viewer, To: provider, Capacity: 10 * million, Push: million},
			{From: remote, To: router, Capacity: 10 * million, Push: million},
			{From: router, To: provider, Capacity: 10 * million, Push: million},
		},
	})
	if err != nil {
		return err
	}
	for _, n := range s.network.Nodes() {
		s.nodes[n.Name], err = lnd.New(lnd.Config{Addr: n.REST, TLSCertFile: n.CertFile, MacaroonFile: n.MacaroonFile, Log: s.Log})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) close() (err error) {
	for _, p := range s.running {
		p.stop()
	}
	for _, end := range s.inside {
		err = errors.Join(err, end())
	}
	for _, n := range s.nodes {
		err = errors.Join(err, n.Close())
	}
	if s.network != nil {
		err = errors.Join(err, s.network.Close())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// macaroon bakes one for a node, with no more than rights, as real servers have
// them.
func (s *stage) macaroon(ctx context.Context, node string, rights []lnd.Right) (file string, err error) {
	file = filepath.Join(s.dir, node+".macaroon")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	m, err := s.nodes[node].Bake(ctx, rights, 0)
	if err != nil {
		return "", err
	}
	return file, m.Write(file)
}

// serve starts a provider of the titles in a folder, which does not mind many
// requests from one address.
func (s *stage) serve(ctx context.Context, titles string, flags ...string) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	macaroon, err := s.macaroon(ctx, provider, lnd.SellingRights)
	if err != nil {
		return nil, err
	}
	node := s.network.Node(provider)
	return s.launch(ctx, "provider", "http://"+address, "/v1/provider", s.Program, append([]string{
		"serve", "--listen", address, "--page", "", "--titles-folder", titles,
		"--node-address", node.REST, "--node-tls-cert", node.CertFile, "--macaroon", macaroon,
		"--ledger", filepath.Join(s.dir, "provider.db"), "--secret", filepath.Join(s.dir, "provider.secret"),
		"--offer-rate", "1000000", "--max-open-offers", "1000000", "--invoice-rate", "1000000", "--credentials", "free", "--log-level", "warn",
	}, flags...)...)
}

// proxy starts a viewer's proxy over a node, with fresh books and an empty
// cache. The caller stops it.
func (s *stage) proxy(ctx context.Context, node string, provider *process, flags ...string) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	macaroon, err := s.macaroon(ctx, node, lnd.BuyingRights)
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp(s.dir, "viewer-")
	if err != nil {
		return nil, err
	}
	n := s.network.Node(node)
	return s.launch(ctx, "proxy", "http://"+address, "/api/titles", s.Program, append([]string{
		"proxy", "--listen", address, "--providers", provider.url,
		"--node-address", n.REST, "--node-tls-cert", n.CertFile, "--macaroon", macaroon,
		"--ledger", filepath.Join(home, "viewer.db"), "--cache", filepath.Join(home, "cache"),
		"--budget-segment", "1000 sat", "--budget-title", "1000000 sat", "--budget-day", "1000000 sat", "--log-level", "warn",
	}, flags...)...)
}

// files starts nginx over a folder, as it comes but for logs.
func (s *stage) files(ctx context.Context, folder string) (*process, error) {
	nginx, err := lookPath("nginx")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp(s.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // else its workers cannot read private folders
	}
	config := strings.NewReplacer("HOME", home, "USER", user, "ADDRESS", address, "FOLDER", folder).Replace(`
daemon off; USER
worker_processes auto;
pid HOME/pid;
error_log HOME/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000;
	client_body_temp_path HOME/body; proxy_temp_path HOME/proxy; fastcgi_temp_path HOME/fastcgi;
	uwsgi_temp_path HOME/uwsgi; scgi_temp_path HOME/scgi;
	types { application/dash+xml mpd; video/mp4 mp4 m4s; }
	default_type application/octet-stream;
	server { listen ADDRESS; root FOLDER; location = / { return 200; } }
}
`)
	file := filepath.Join(home, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return s.launch(ctx, "nginx", "http://"+address, "/", nginx, "-e", filepath.Join(home, "error.log"), "-p", home, "-c", file)
}

// rawPayment is the time of one payment from a node to the provider, without
// anything of ours around it. The invoice is there before.
func (s *stage) rawPayment(ctx context.Context, from string) (time.Duration, error) {
	inv, err := s.invoice(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	_, err = s.nodes[from].Pay(ctx, inv, 2*lightning.Sat)
	return time.Since(began), err
}

func (s *stage) invoice(ctx context.Context) (lightning.Invoice, error) {
	inv, err := s.nodes[provider].Invoice(ctx, lightning.RandomPreimage(), lightning.Terms{Amount: 2 * lightning.Sat})
	if err != nil {
		return inv, fmt.Errorf("raw payment: %w", err)
	}
	return inv, nil
}
