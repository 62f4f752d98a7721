package nostr

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"htlcdash"
)

// MaxMessage is the longest message that is read, in bytes.
const MaxMessage = 64 << 10

// A label says what a message is.
type label string

const (
	labelEvent  label = "EVENT"
	labelReq    label = "REQ"
	labelClose  label = "CLOSE"
	labelOK     label = "OK"
	labelEOSE   label = "EOSE"
	labelClosed label = "CLOSED"
	labelNotice label = "NOTICE"
)

// A message is one of either side. Which fields count depends on its label.
type message struct {
	label   label
	sub     string          // of REQ, CLOSE, CLOSED, EOSE, and EVENT from a relay
	event   json.RawMessage // of EVENT; not read yet
	filters []Filter        // of REQ
	id      ID              // of OK
	ok      bool            // of OK
	text    string          // of OK, CLOSED, NOTICE: why
}

var errMessage = fmt.Errorf("message: %w", htlcdash.ErrFormat)

// parseMessage reads a message. One with a label that it does not know has only
// that. The event in it is not read. The error matches [htlcdash.ErrFormat].
func parseMessage(b []byte) (m message, err error) {
	if len(b) > MaxMessage || !utf8.Valid(b) {
		return m, errMessage
	}
	var parts []json.RawMessage
	if json.Unmarshal(b, &parts) != nil || len(parts) < 2 || json.Unmarshal(parts[0], &m.label) != nil {
		return m, errMessage
	}
	rest := parts[1:]
	switch m.label {
	case labelEvent:
		if len(rest) == 2 {
			err, rest = m.readSub(rest[0]), rest[1:]
		}
		m.event = rest[0]
	case labelReq:
		if err = m.readSub(rest[0]); err == nil {
			err = m.readFilters(rest[1:])
		}
	case labelClose, labelEOSE:
		err = m.readSub(rest[0])
	case labelClosed:
		err = m.readSub(rest[0])
		m.readText(rest[1:])
	case labelOK:
		if len(rest) < 2 || json.Unmarshal(rest[0], &m.id) != nil || json.Unmarshal(rest[1], &m.ok) != nil {
			return m, errMessage
		}
		m.readText(rest[2:])
	case labelNotice:
		m.readText(rest)
	}
	return m, err
}

func (m *message) readSub(b []byte) error {
	if json.Unmarshal(b, &m.sub) != nil || m.sub == "" || len(m.sub) > MaxSubID {
		return fmt.Errorf("name of a subscription: want 1 to %d bytes: %w", MaxSubID, htlcdash.ErrFormat)
	}
	return nil
}

func (m *message) readFilters(parts []json.RawMessage) error {
	if len(parts) == 0 || len(parts) > MaxFilters {
		return fmt.Errorf("subscription with %d filters, 1 to %d: %w", len(parts), MaxFilters, htlcdash.ErrFormat)
	}
	m.filters = make([]Filter, len(parts))
	for i, p := range parts {
		if err := m.filters[i].UnmarshalJSON(p); err != nil {
			return err
		}
	}
	return nil
}

// readText reads a text for people, which is optional and cut.
func (m *message) readText(parts []json.RawMessage) {
	if len(parts) > 0 && json.Unmarshal(parts[0], &m.text) == nil && len(m.text) > 256 {
		m.text = m.text[:256]
	}
}

// write gives the message of its parts.
func write(parts ...any) []byte {
	b, err := json.Marshal(parts)
	if err != nil {
		panic("nostr: " + err.Error()) // all parts are ours
	}
	return b
}
