package network

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
)

// A btcdRPC calls btcd over HTTP. Unlike btcd's own client it does not go on
// trying for half a minute when btcd is gone.
type btcdRPC struct {
	address, certFile string

	mu     sync.Mutex
	client *http.Client // nil until btcd has made its certificate
}

// call calls a method and decodes its result, unless result is nil.
func (r *btcdRPC) call(ctx context.Context, result any, method string, params ...any) error {
	results, err := r.batch(ctx, method, [][]any{params})
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(results[0], result)
}

// batch calls a method once with each of params, in that order, in one round
// trip: btcd closes the connection after each.
func (r *btcdRPC) batch(ctx context.Context, method string, params [][]any) ([]json.RawMessage, error) {
	type request struct {
		Version string `json:"jsonrpc"`
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  []any  `json:"params"`
	}
	requests := make([]request, len(params))
	for i, p := range params {
		requests[i] = request{"2.0", i, method, append([]any{}, p...)} // not null
	}
	var replies []struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := r.post(ctx, requests, &replies); err != nil {
		return nil, fmt.Errorf("btcd: %s: %w", method, err)
	}
	if len(replies) != len(params) {
		return nil, fmt.Errorf("btcd: %s: %d answers to %d questions", method, len(replies), len(params))
	}
	results := make([]json.RawMessage, len(replies))
	for i, reply := range replies {
		if reply.Error != nil {
			return nil, fmt.Errorf("btcd: %s: %s", method, reply.Error.Message)
		}
		results[i] = reply.Result
	}
	return results, nil
}

func (r *btcdRPC) post(ctx context.Context, request, reply any) error {
	client, err := r.dial()
	if err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+r.address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(rpcUser, rpcPass)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(reply); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	return nil
}

func (r *btcdRPC) dial() (*http.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		return r.client, nil
	}
	cert, err := os.ReadFile(r.certFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cert) {
		return nil, fmt.Errorf("%s holds no certificate", r.certFile)
	}
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	return r.client, nil
}
