package lnd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/coder/websocket"

	"htlcdash/lightning"
)

const (
	maxAnswer = 32 << 20 // bytes of one answer; a page of invoices is the largest
	maxLine   = 4 << 20  // bytes of one message of a stream
	maxFault  = 64 << 10 // bytes of an error's body
	maxFrame  = 4 << 20  // bytes of one message of a socket, as lnd has it

	dialTimeout = 5 * time.Second
	// callTimeout bounds a call that does not wait for the network.
	callTimeout = 30 * time.Second

	macaroonHeader = "Grpc-Metadata-macaroon"
)

// client is lnd's REST interface, as far as HTTP goes.
type client struct {
	base     *url.URL
	http     *http.Client
	macaroon Macaroon
}

func newClient(cfg Config) (*client, error) {
	base, err := url.Parse(cfg.Addr)
	if err != nil || base.Host == "" || base.Path != "" && base.Path != "/" {
		return nil, fmt.Errorf("address of lnd %q: want https://host:port", cfg.Addr)
	}
	if base.Scheme != "https" && !(base.Scheme == "http" && loopback(base.Hostname())) {
		return nil, fmt.Errorf("address of lnd %q: want https, or else the macaroon could be read on its way", cfg.Addr)
	}
	roots, err := authorities(cfg.TLSCertFile)
	if err != nil {
		return nil, err
	}
	c := &client{base: base, http: &http.Client{Transport: transport(cfg, roots)}}
	if cfg.MacaroonFile != "" {
		if c.macaroon, err = ReadMacaroon(cfg.MacaroonFile); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// transport keeps a connection for each payment in flight: lnd's REST speaks
// HTTP/1.1 only, and a TLS handshake would cost more than the payment's call.
func transport(cfg Config, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout:   dialTimeout,
		MaxIdleConns:          cfg.MaxInFlight + 16,
		MaxIdleConnsPerHost:   cfg.MaxInFlight + 16,
		IdleConnTimeout:       5 * time.Minute,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
	}
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate of lnd: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate of lnd: %s holds no certificate in PEM form", file)
	}
	return roots, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *client) get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

func (c *client) post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, in, out)
}

// call is one question and one answer. out may be nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return unavailable(err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("answer of %s is not what lnd sends", route(path))
	}
	return nil
}

// stream opens an endless answer, one JSON message a line. lnd sends the
// headers with the first message, so this waits for it.
func (c *client) stream(ctx context.Context, method, path string, in any) (*stream, error) {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	return &stream{body: resp.Body, lines: lines}, nil
}

// do sends a request. The error is an [*answer] if the node answered with one,
// or else matches [lightning.ErrUnavailable].
func (c *client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("question to %s: %w", route(path), err)
		}
		body = bytes.NewReader(b)
	}
	target, err := c.base.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("path %s: %w", route(path), err)
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("question to %s: %w", route(path), err)
	}
	c.authorize(req.Header)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unavailable(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, maxFault))
		return nil, readAnswer(resp.StatusCode, b)
	}
	return resp, nil
}

func (c *client) authorize(h http.Header) {
	if !c.macaroon.IsZero() {
		h.Set(macaroonHeader, hex.EncodeToString(c.macaroon.Reveal()))
	}
}

// route is a path without its question.
func route(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// unavailable marks err as silence of the node. The URL goes, the cause stays.
func unavailable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%w: %w", lightning.ErrUnavailable, err)
}

// stream is a sequence of messages.
type stream struct {
	body  io.ReadCloser
	lines *bufio.Scanner
}

// next reads one message into out, which must be a pointer. The end of the
// stream is io.EOF.
func (s *stream) next(out any) error {
	if !s.lines.Scan() {
		if err := s.lines.Err(); err != nil {
			return unavailable(err)
		}
		return io.EOF
	}
	return readMessage(s.lines.Bytes(), out)
}

// readMessage unwraps one message of a stream.
func readMessage(b []byte, out any) error {
	var m struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return unavailable(errors.New("a message is not what lnd sends"))
	}
	if m.Error != nil {
		return readAnswer(http.StatusOK, m.Error)
	}
	if err := json.Unmarshal(m.Result, out); err != nil {
		return unavailable(errors.New("a message is not what lnd sends"))
	}
	return nil
}

// socket opens a call in which both sides talk: lnd has them as websockets.
func (c *client) socket(ctx context.Context, path string) (*websocket.Conn, error) {
	target := *c.base
	target.Scheme = strings.Replace(target.Scheme, "http", "ws", 1)
	target.Path, target.RawQuery = path, "method=POST"
	header := make(http.Header)
	c.authorize(header)
	conn, _, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: header})
	if err != nil {
		return nil, unavailable(err)
	}
	conn.SetReadLimit(maxFrame)
	return conn, nil
}

func send(ctx context.Context, conn *websocket.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := conn.Write(ctx, websocket.MessageText, b); err != nil {
		return unavailable(err)
	}
	return nil
}

func receive(ctx context.Context, conn *websocket.Conn, out any) error {
	_, b, err := conn.Read(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return unavailable(err)
	}
	return readMessage(b, out)
}

// finish reads to the end, which must be near, so that the connection can be
// used again.
func (s *stream) finish() {
	io.CopyN(io.Discard, s.body, maxFault)
	s.body.Close()
}

// answer is an error that the node itself returned: it has heard us.
type answer struct {
	status  int // of HTTP
	code    int // of gRPC
	message string
}

// gRPC's status codes, as far as they are told apart here.
const (
	codeInvalid         = 3
	codeNotFound        = 5
	codePermission      = 7
	codeUnavailable     = 14
	codeUnauthenticated = 16
)

// readAnswer takes {"code":..,"message":..}, also inside {"error":..}.
func readAnswer(status int, body []byte) *answer {
	type fault struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	var m struct {
		fault
		Error fault `json:"error"`
	}
	if json.Unmarshal(body, &m) != nil {
		return &answer{status: status, message: http.StatusText(status)}
	}
	if m.Message == "" {
		m.fault = m.Error
	}
	return &answer{status: status, code: m.Code, message: scrub(m.Message)}
}

// secrets are what could be a preimage, a macaroon or an invoice in lnd's own
// words: lnd quotes what it cannot parse.
var secrets = regexp.MustCompile(`[0-9A-Za-z+/_=-]{40,}`)

func scrub(s string) string { return secrets.ReplaceAllString(s, "[...]") }

func (a *answer) Error() string {
	if a.message == "" {
		return fmt.Sprintf("lnd answers with status %d", a.status)
	}
	return "lnd says: " + a.message
}

// says reports whether the message holds one of the texts. lnd gives most of
// its errors the code "unknown", so there is no better way to tell them apart.
func (a *answer) says(texts ...string) bool {
	for _, t := range texts {
		if strings.Contains(a.message, t) {
			return true
		}
	}
	return false
}

// Is maps what lnd says to the errors that callers decide on.
func (a *answer) Is(target error) bool {
	switch target {
	case lightning.ErrDenied:
		return a.code == codePermission || a.code == codeUnauthenticated ||
			a.says("permission denied", "verification failed", "cannot get macaroon", "expected 1 macaroon", "caveat")
	case lightning.ErrUnavailable:
		return a.code == codeUnavailable || a.status == http.StatusBadGateway || a.status == http.StatusServiceUnavailable ||
			a.says("in the process of starting up", "wallet locked", "waiting to start", "shutting down", "server is still in the process of starting")
	}
	return false
}
