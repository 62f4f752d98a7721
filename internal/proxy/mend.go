package proxy

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"

	"htlcdash/internal/dash"
)

// A menu is made when a player loads the MPD. Later a budget may be lowered, or
// two players share one, and then a player may ask for a segment whose price
// would leave too little for the end of the film. A player in a browser gets a
// cheaper rung in its place then, with the init segment in front, which Media
// Source Extensions take at the begin of any segment: the picture gets worse and
// the film goes on. Others decode by the init segment that they have, and keep
// to one rung until the money is out; for them there is only the menu.

// mend returns what a browser's player gets in place of p, which may be p. With
// ok its init segment has to come first. f.mu is not held.
func (f *film) mend(p piece, said dash.CMCD) (instead piece, ok bool) {
	if !f.paid || p.index < 0 || resource(p.rep, p.index).Length > 0 {
		return p, false
	}
	money := f.budget()
	f.mu.Lock()
	defer f.mu.Unlock()
	if money.limited {
		instead = f.affordable(p, money)
	} else {
		instead = p
	}
	l := f.lanes[laneKey{said.SessionID, trackOf(p.rep)}]
	if l == nil {
		return instead, instead != p
	}
	l.mended = l.mended || instead != p // what it has by then is the init segment of another rung
	return instead, l.mended
}

// affordable returns p, or what leaves enough for the end of the film. f.mu is
// held.
func (f *film) affordable(p piece, money budget) piece {
	a := f.advised()
	k, i, r, ok := a.ladder.Find(p.rep.ID, p.index)
	if !ok || f.owns(p) || f.pays(p) {
		return p
	}
	s := f.stateOf(a, money.left)
	if s.Next[k] != i {
		s.Last[k] = -1
	}
	s.Track, s.Next[k] = k, i
	rung, _ := a.floor.Affordable(s, r)
	rep, index := a.ladder.At(k, i, rung)
	if rung == r || !compatible(p.rep, rep) {
		return p
	}
	return piece{rep, index}
}

// compatible reports whether a player that can decode one can go on with the
// other.
func compatible(a, b *dash.Representation) bool {
	codec := func(r *dash.Representation) string { s, _, _ := strings.Cut(r.Codecs, "."); return s }
	return a.MimeType == b.MimeType && codec(a) == codec(b) && b.Segments[0].Length == 0 && b.Init.Path != ""
}

// sendMended answers with a whole segment and its init segment.
func (p *Proxy) sendMended(ctx context.Context, w http.ResponseWriter, r *http.Request, f *film, s piece) {
	head, err := f.fetch(piece{s.rep, -1}).wait(ctx)
	if err != nil {
		p.fail(w, r, f, err)
		return
	}
	data, err := f.ask(ctx, s, cmcd(r))
	if err != nil {
		p.fail(w, r, f, err)
		return
	}
	body := bytes.Join([][]byte{head, data}, nil)
	h := w.Header()
	h.Set("Content-Type", mediaType([]span{{piece: s}}, ""))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if n, err := w.Write(body); err == nil {
		f.delivered(s, n)
	}
}
