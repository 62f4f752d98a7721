package network

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/btcsuite/btcd/wire"
)

// A blockLog is a file of all blocks that were mined, in order. btcd holds new
// blocks in memory for minutes and forgets them when it is killed, but the lnd
// nodes do not, and would wait for ever for the chain that they know.
type blockLog struct {
	file   *os.File
	blocks []*wire.MsgBlock // from height 1
}

// openBlockLog reads the log. A block that was written half is cut off.
func openBlockLog(name string) (*blockLog, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("block log: %w", err)
	}
	l := &blockLog{file: file}
	r, size := bufio.NewReader(file), int64(0)
	for {
		block := new(wire.MsgBlock)
		err := block.Deserialize(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("block log %s is broken: %w", name, err)
		}
		l.blocks = append(l.blocks, block)
		size += int64(block.SerializeSize())
	}
	if err := file.Truncate(size); err != nil {
		file.Close()
		return nil, fmt.Errorf("block log: %w", err)
	}
	if _, err := file.Seek(size, io.SeekStart); err != nil {
		file.Close()
		return nil, fmt.Errorf("block log: %w", err)
	}
	return l, nil
}

func (l *blockLog) height() int64 { return int64(len(l.blocks)) }

func (l *blockLog) append(blocks ...*wire.MsgBlock) error {
	w := bufio.NewWriter(l.file)
	for _, b := range blocks {
		if err := b.Serialize(w); err != nil {
			return fmt.Errorf("block log: %w", err)
		}
	}
	if err := errors.Join(w.Flush(), l.file.Sync()); err != nil {
		return fmt.Errorf("block log: %w", err)
	}
	l.blocks = append(l.blocks, blocks...)
	return nil
}

// restore gives btcd the blocks that it lacks.
func (c *chain) restore(ctx context.Context) error {
	have, err := c.height(ctx)
	if err != nil {
		return err
	}
	for ; have < c.log.height(); have++ {
		var raw bytes.Buffer
		if err := c.log.blocks[have].Serialize(&raw); err != nil {
			return fmt.Errorf("restore block %d: %w", have+1, err)
		}
		var refused *string
		err := c.rpc.call(ctx, &refused, "submitblock", hex.EncodeToString(raw.Bytes()))
		if err == nil && refused != nil {
			err = errors.New(*refused)
		}
		if err != nil {
			return fmt.Errorf("restore block %d: %w", have+1, err)
		}
	}
	return c.record(ctx, have)
}

// record logs the blocks up to height that are not in the log.
func (c *chain) record(ctx context.Context, height int64) error {
	var blocks []*wire.MsgBlock
	for h := c.log.height() + 1; h <= height; h++ {
		block, err := c.block(ctx, h)
		if err != nil {
			return fmt.Errorf("record block %d: %w", h, err)
		}
		blocks = append(blocks, block)
	}
	return c.log.append(blocks...)
}

func (c *chain) block(ctx context.Context, height int64) (*wire.MsgBlock, error) {
	var hash, text string
	if err := c.rpc.call(ctx, &hash, "getblockhash", height); err != nil {
		return nil, err
	}
	if err := c.rpc.call(ctx, &text, "getblock", hash, 0); err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	block := new(wire.MsgBlock)
	return block, block.Deserialize(bytes.NewReader(raw))
}
