package network

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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

// lot is how many blocks go into one call.
const lot = 50

// restore gives btcd the blocks that it lacks.
func (c *chain) restore(ctx context.Context) error {
	have, err := c.height(ctx)
	if err != nil {
		return err
	}
	for have < c.log.height() {
		blocks := c.log.blocks[have:min(have+lot, c.log.height())]
		if err := c.submit(ctx, blocks); err != nil {
			return fmt.Errorf("restore blocks from %d: %w", have+1, err)
		}
		have += int64(len(blocks))
	}
	return c.record(ctx, have)
}

func (c *chain) submit(ctx context.Context, blocks []*wire.MsgBlock) error {
	var params [][]any
	for _, b := range blocks {
		var raw bytes.Buffer
		if err := b.Serialize(&raw); err != nil {
			return err
		}
		params = append(params, []any{hex.EncodeToString(raw.Bytes())})
	}
	replies, err := c.rpc.batch(ctx, "submitblock", params)
	if err != nil {
		return err
	}
	for _, refusal := range replies {
		if string(refusal) != "null" {
			return fmt.Errorf("btcd refuses a block: %s", refusal)
		}
	}
	return nil
}

// record logs the blocks up to height that are not in the log.
func (c *chain) record(ctx context.Context, height int64) error {
	for c.log.height() < height {
		blocks, err := c.fetch(ctx, c.log.height()+1, min(c.log.height()+lot, height))
		if err != nil {
			return fmt.Errorf("record blocks from %d: %w", c.log.height()+1, err)
		}
		if err := c.log.append(blocks...); err != nil {
			return err
		}
	}
	return nil
}

// fetch asks btcd for the blocks of a range of heights.
func (c *chain) fetch(ctx context.Context, from, to int64) ([]*wire.MsgBlock, error) {
	var heights [][]any
	for h := from; h <= to; h++ {
		heights = append(heights, []any{h})
	}
	hashes, err := c.rpc.batch(ctx, "getblockhash", heights)
	if err != nil {
		return nil, err
	}
	params := make([][]any, len(hashes))
	for i, h := range hashes {
		params[i] = []any{h, 0} // 0: raw
	}
	replies, err := c.rpc.batch(ctx, "getblock", params)
	if err != nil {
		return nil, err
	}
	blocks := make([]*wire.MsgBlock, len(replies))
	for i, reply := range replies {
		var text string
		if err := json.Unmarshal(reply, &text); err != nil {
			return nil, err
		}
		blocks[i] = new(wire.MsgBlock)
		if err := blocks[i].Deserialize(hex.NewDecoder(strings.NewReader(text))); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}
