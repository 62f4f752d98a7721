package buyer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"htlcdash"
	"htlcdash/internal/credential"
	"htlcdash/internal/exchange"
	"htlcdash/lightning"
)

// A FileInfo is what a provider says of a file that it sells by the chunk. All
// of it is a claim.
type FileInfo struct {
	File  htlcdash.Blob
	Name  string         // for people: a stranger wrote it
	Price lightning.Msat // of a MiB
	Chunk int64          // bytes of a chunk
}

// Files asks which files the provider sells by the chunk: at most 4096.
func (p *Provider) Files(ctx context.Context) ([]FileInfo, error) {
	list, err := p.fileList(ctx, "v1/files")
	if err != nil {
		return nil, err
	}
	files := make([]FileInfo, len(list.Files))
	for i, f := range list.Files {
		files[i] = FileInfo{f.Cut().File, f.Name, f.Price, int64(f.Leaves) * htlcdash.LeafSize}
	}
	return files, nil
}

// file asks for the terms of one file.
func (p *Provider) file(ctx context.Context, b htlcdash.Blob) (exchange.FileInfo, error) {
	list, err := p.fileList(ctx, "v1/files/"+b.Root.String())
	if err != nil {
		return exchange.FileInfo{}, err
	}
	if len(list.Files) != 1 || list.Files[0].Root != b.Root {
		return exchange.FileInfo{}, fmt.Errorf("%s: another file than asked for: %w", p, htlcdash.ErrFormat)
	}
	if f := list.Files[0]; f.Length != b.Length {
		return f, fmt.Errorf("%s says that it has %d bytes, want %d: %w", p, f.Length, b.Length, ErrTerms)
	}
	return list.Files[0], nil
}

func (p *Provider) fileList(ctx context.Context, path string) (exchange.FileList, error) {
	r, err := p.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return exchange.FileList{}, err
	}
	b, err := p.read(r, exchange.MaxFileListBytes)
	if err != nil {
		return exchange.FileList{}, err
	}
	list, err := exchange.ParseFileList(b)
	if err != nil {
		return exchange.FileList{}, fmt.Errorf("%s: %w", p, err)
	}
	return list, nil
}

// layer asks for the roots of the file's chunks, and holds them against the
// file's.
func (p *Provider) layer(ctx context.Context, cut exchange.Cut) ([]htlcdash.Root, error) {
	r, err := p.request(ctx, http.MethodGet, "v1/files/"+cut.File.Root.String()+"/layer", nil)
	if err != nil {
		return nil, err
	}
	b, err := p.read(r, 32*exchange.MaxChunks)
	if err != nil {
		return nil, err
	}
	layer, err := exchange.ParseLayer(b, cut)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return layer, nil
}

// chunks asks for chunks and hands each to got when it has come, in the order
// of the request. They are checked in form, not in their terms. An error of got
// ends it.
func (p *Provider) chunks(ctx context.Context, c credential.Credential, req exchange.ChunkRequest, got func(exchange.Chunk) error) error {
	const path = "v1/chunks"
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	r, err := p.request(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", c.Authorization(http.MethodPost, "/"+path, body, time.Now()))
	resp, err := p.do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, i := range req.Indices {
		chunk, err := exchange.ReadChunk(resp.Body, req.Cut, i)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if err := got(chunk); err != nil {
			return err
		}
	}
	return nil
}
