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
	if err := r.do(ctx, result, method, params); err != nil {
		return fmt.Errorf("btcd: %s: %w", method, err)
	}
	return nil
}

func (r *btcdRPC) do(ctx context.Context, result any, method string, params []any) error {
	client, err := r.dial()
	if err != nil {
		return err
	}
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
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
	var reply struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s", reply.Error.Message)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(reply.Result, result)
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
